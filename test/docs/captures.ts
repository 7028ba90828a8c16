// Everything that the documents show, from one router in a laboratory that runs README.md's own configuration.

import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLab, type Lab, NICS } from '../lab/lab.ts';
import type { Captures } from './documents.ts';
import { read } from './documents.ts';
import { pictureOf } from './picture.ts';
import { PATH, plain, putProgram, type Screen, steady, type } from './terminal.ts';

const EIP = '  - { eip: 203.0.113.51, vm-ip: 192.168.100.191 }\n';
const ROUTE = 'route_list:\n  - { dest: 172.16.0.0/16, via: 192.168.100.1 }\n';
const CONFIG = '/etc/kylin-vr/kylin-vr.yaml';
const ANSWER_MS = 30_000;
/** `rollback --list` tells whole seconds: so long between two runs, and their times differ. */
const SECOND_MS = 1000;

export async function captures(): Promise<Captures> {
  const lab = await createLab({ nics: [NICS.public, NICS.a] });
  try {
    return await captureIn(lab);
  } finally {
    await lab.close();
  }
}

async function captureIn(lab: Lab): Promise<Captures> {
  const { router } = lab;
  const kylin = (args: string, options?: Parameters<typeof type>[2]) => type(router, `kylin-vr ${args}`, options);
  const config = await readmeConfig();
  const blocks: Record<string, string> = {};
  const show = (name: string, ...screens: Screen[]) => {
    blocks[name] = plain(screens);
  };

  await putProgram(router);
  await lab.configure(config);
  await kylin('--trigger agent reload');
  await kylin('--trigger udev reload');
  show('status', await kylin('status'));

  await router.write('/run/kylin-vr.yaml', broken(config));
  show('check', await kylin('check kylin-vr.yaml', { prompt: '$', status: 65 }));
  await sleep(SECOND_MS);
  show('edit', await kylin('eip add 203.0.113.51=192.168.100.191'));
  show('explain', await kylin('explain --from 192.168.100.190 --to 203.0.113.60:81/tcp --live'));

  const edited = `${await router.read(CONFIG)}${ROUTE}`;
  await lab.configure(edited);
  await sleep(SECOND_MS);
  show('confirm', await kylin('reload --confirm-within 60'), await kylin('confirm'));
  show('rollback', await kylin('rollback --list'));

  await lab.configure(broken(edited));
  await kylin('start', { status: 65 });
  show('bad-boot', await kylin('status | tail -n 5'));

  Object.assign(blocks, await agentCalls(lab, edited));

  const named = nameNics(config);
  await lab.configure(named + ROUTE);
  await kylin('reload');
  await lab.configure(changed(named));
  const picture = pictureOf([await kylin('plan'), await kylin('reload | tail -n 1'), await kylin('status')]);
  return { blocks, picture };
}

/** The first configuration that README.md shows. */
async function readmeConfig(): Promise<string> {
  const yaml = /<!-- kylin-vr-config -->\n```yaml\n(.*?)```/s.exec(await read('README.md'))?.[1];
  if (yaml === undefined) throw new Error('README.md has no configuration');
  return yaml;
}

const broken = (config: string) => config.replace('prefix: 24', 'prefix: 33');

const nameNics = (config: string) =>
  config
    .replace(`mac: ${NICS.public.mac}`, '$&\n    name: public')
    .replace(`mac: ${NICS.a.mac}`, '$&\n    name: tenant-a');

/** Something of everything: an EIP that comes, a route that goes, an MTU that changes, a NIC that is not there yet. */
function changed(config: string): string {
  return config
    .replace(`mac: ${NICS.a.mac}`, `$&\n    mtu: 1450`)
    .replace('eip_list:', `  - { ipaddr: 192.168.200.254, prefix: 24, mac: '${NICS.b.mac}', name: tenant-b }\n$&`)
    .replace('port_forward_list:', `${EIP}$&`);
}

/** The host's calls, one after another, with a real guest agent; and what came back of them. */
async function agentCalls(lab: Lab, config: string): Promise<Record<string, string>> {
  const path = `${CONFIG}.new`;
  const agent = await openAgent(lab);
  try {
    const put = async (text: string) => {
      const handle = await agent.call('guest-file-open', { path, mode: 'w' });
      await agent.call('guest-file-write', { handle, 'buf-b64': Buffer.from(text).toString('base64') });
      await agent.call('guest-file-close', { handle });
      await agent.exec({ path: 'chmod', arg: ['0600', path] });
      await agent.exec({ path: 'mv', arg: ['-fT', path, CONFIG] });
      return agent.exec({ path: 'kylin-vr', arg: ['reload', '--json'], 'capture-output': true });
    };
    const report = await put(`${config}  - { dest: 172.17.0.0/16, via: 192.168.100.1 }\n`);
    const calls = steady(agent.taken());
    const refused = JSON.parse(await put(broken(config))) as { errors: object };
    return {
      'agent-calls': calls,
      'reload-json': steady(report),
      'errors-json': `"errors": ${JSON.stringify(refused.errors, null, 2)}\n`,
    };
  } finally {
    agent.close();
  }
}

type Conversation = {
  call(execute: string, given: object): Promise<unknown>;
  /** Until it has ended; gives what it printed. */
  exec(given: object): Promise<string>;
  /** Questions and answers as they went over the socket; of those that ask whether a process has ended, the last. */
  taken(): string;
  close(): void;
};

async function openAgent({ router }: Lab): Promise<Conversation> {
  const child = router.spawn(['qemu-ga', '-m', 'unix-listen', '-p', '/run/agent', '-t', '/run'], {
    env: { PATH },
    stdio: 'ignore',
  });
  while ((await router.run(['test', '-S', '/run/agent'])).status !== 0) {
    if (child.exitCode !== null) throw new Error(`qemu-ga ended ${child.exitCode}`);
    await sleep(20);
  }
  const socket = connect(`/proc/${router.pid}/root/run/agent`);
  await once(socket, 'connect');
  const answers = createInterface({ input: socket });
  let said: string[] = [];
  const ask = async (execute: string, given: object) => {
    const question = JSON.stringify({ execute, arguments: given });
    const answered = once(answers, 'line', { signal: AbortSignal.timeout(ANSWER_MS) });
    socket.write(`${question}\n`);
    const [answer] = (await answered) as [string];
    return { words: [`→ ${question}`, `← ${answer}`], value: (JSON.parse(answer) as { return?: unknown }).return };
  };
  const call: Conversation['call'] = async (execute, given) => {
    const { words, value } = await ask(execute, given);
    said.push(...words);
    return value;
  };
  return {
    call,
    async exec(given) {
      const { pid } = (await call('guest-exec', given)) as { pid: number };
      for (;;) {
        const { words, value } = await ask('guest-exec-status', { pid });
        const ended = value as { exited: boolean; 'out-data'?: string };
        if (!ended.exited) {
          await sleep(50);
          continue;
        }
        said.push(...words);
        return Buffer.from(ended['out-data'] ?? '', 'base64').toString();
      }
    },
    taken() {
      const text = said.map((line) => `${line}\n`).join('');
      said = [];
      return text;
    },
    close: () => socket.destroy(),
  };
}
