// Messages that no other test shows, each provoked for real on a router, with its whole text: `…` stands for what differs.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, before, describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Context, GlobalOptions } from '../../src/commands/context.ts';
import { triggerOf } from '../../src/commands/reload.ts';
import { parseAddresses } from '../../src/dialects/iproute.ts';
import { linuxHost } from '../../src/machine/linux-host.ts';
import { stateInWords } from '../../src/machine/process.ts';
import { chooseRenderer } from '../../src/run/survey.ts';
import { fileOf, kylinVr } from '../cli/program.ts';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';
import type { RunResult } from '../lab/namespace.ts';
import { createManagedLab } from '../lab/path.ts';
import { elastic } from '../lab/table.ts';
import { recordTools, type Tools } from '../lab/tools.ts';
import { createTraffic } from '../lab/traffic.ts';
import { createTree } from '../packages/tree.ts';

function isSaid(text: string, said: string): void {
  const pieces = text.split('…').map((piece) => piece.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  assert.match(said, new RegExp(`^${pieces.join('.*')}$`, 'm'));
}

describe('on a router', { concurrency: false }, () => {
  let lab: Lab;
  let tools: Tools;
  const changed = elastic.config.replace('203.0.113.50', '203.0.113.51');
  /** First rules, then an address. */
  const more = elastic.config.replace(/(?<=eip_list:\n)/, '  - { eip: 203.0.113.51, vm-ip: 10.10.1.12 }\n');
  before(async () => {
    lab = await createLab();
    tools = await recordTools(lab.router);
    await settle();
  });
  after(() => lab?.close());

  const shell = (script: string) => lab.router.run(['sh', '-ec', script], { check: true });
  const settle = async (config = elastic.config) => {
    await lab.configure(config);
    assert.equal((await lab.kylin('reload')).status, 0);
  };
  const said = ({ stdout, stderr }: RunResult) => `${stdout}${stderr}`;
  const warningsOf = async (command: string): Promise<string> => {
    const { warnings } = JSON.parse((await lab.kylin(command, '--json')).stdout) as { warnings: { message: string }[] };
    return warnings.map(({ message }) => message).join('\n');
  };
  /** An entry of conntrack, by the addresses and ports of each direction. */
  const enter = (protocol: string, there: string, back: string, more: readonly string[] = []) => {
    const [source, sport, destination, dport] = there.split(' ');
    const [replySource, replySport, replyDestination, replyDport] = back.split(' ');
    const hosts = `-s ${source} -d ${destination} -r ${replySource} -q ${replyDestination}`;
    const ports = `--sport ${sport} --dport ${dport} --reply-port-src ${replySport} --reply-port-dst ${replyDport}`;
    return shell(`conntrack -I -p ${protocol} ${hosts} ${ports} -t 3600 ${more.join(' ')}`);
  };

  it('a change that fails: done and undone', async (t) => {
    t.after(() => settle());
    await lab.configure(changed);
    await tools.before('ip', 'case "$*" in -batch*) echo no >&2; exit 2 ;; esac');
    const ended = await lab.kylin('reload');
    await tools.before('ip');
    assert.equal(ended.status, 69);
    isSaid('reload: rolled-back, … steps done and undone in … ms', ended.stdout);
    const status = await lab.kylin('status', '--json');
    assert.equal(JSON.parse(status.stdout).notInForce, 'it could not be applied: kylin-vr reload tries it again');
  });

  it('a way back that fails as well', async (t) => {
    t.after(() => settle());
    await lab.configure(more);
    await tools.before('ip', 'case "$*" in -batch*) echo no >&2; exit 2 ;; esac');
    await tools.before('iptables-nft-restore', '[ -e /mnt/first ] && { echo no >&2; exit 2; }; echo > /mnt/first');
    const ended = await lab.kylin('reload', '--json');
    await tools.before('ip');
    await tools.before('iptables-nft-restore');
    assert.equal(ended.status, 69);
    const { errors, warnings } = JSON.parse(ended.stdout) as Record<'errors' | 'warnings', { message: string }[]>;
    isSaid(
      'ip -batch -: status 2: no; the network could not be put back whole; mend the cause and run kylin-vr reload',
      errors[0]?.message ?? '',
    );
    const text = warnings.map(({ message }) => message).join('\n');
    isSaid('taking it back: iptables-restore --noflush --wait 30: status 2: no', text);
    isSaid('not taken back: …; the next reload tries again', text);
  });

  it('a change that somebody else undoes each time', async (t) => {
    t.after(() => settle());
    await lab.configure(changed);
    await tools.before('iptables-nft-save', '/usr/sbin/xtables-nft-multi iptables -t nat -F KYLIN-VR-DNAT || true');
    const ended = await lab.kylin('reload', '--json');
    await tools.before('iptables-nft-save');
    assert.equal(ended.status, 69);
    isSaid(
      'the network is not as it should be after the change; still to do: ~ chain KYLIN-VR-DNAT in nat…; the network …',
      (JSON.parse(ended.stdout) as { errors: { message: string }[] }).errors[0]?.message ?? '',
    );
  });

  it('a step that fails though it is done', async (t) => {
    t.after(() => settle());
    await lab.configure(more);
    await tools.before('ip', 'case "$*" in -batch*) /bin/ip -batch -; echo no >&2; exit 2 ;; esac');
    const ended = await lab.kylin('reload', '--json');
    await tools.before('ip');
    assert.equal(ended.status, 0, ended.stdout);
    const { warnings } = JSON.parse(ended.stdout) as { warnings: { message: string }[] };
    isSaid(
      'ip -batch -: status 2: no (the network is right all the same)',
      warnings.map(({ message }) => message).join('\n'),
    );
  });

  it('an announcement that fails', async (t) => {
    t.after(() => settle());
    const many = Array.from({ length: 9 }, (_, n) => `  - { eip: 203.0.113.${70 + n}, vm-ip: 10.10.1.${70 + n} }\n`);
    await lab.configure(elastic.config.replace(/(?<=eip_list:\n)/, many.join('')));
    await tools.before('ip', 'case "$*" in "-j -b -") echo no >&2; exit 2 ;; esac');
    const { stdout } = await lab.kylin('reload', '--json');
    await tools.before('ip');
    const { warnings } = JSON.parse(stdout) as { warnings: { message: string }[] };
    isSaid(
      'announce 9 addresses on eth0 failed, neighbours learn it by themselves in a while: ip -j -b -: status 2: no',
      warnings.map(({ message }) => message).join('\n'),
    );
  });

  it('flows that cannot be looked at', async (t) => {
    t.after(() => settle());
    await enter('udp', '203.0.113.1 9000 203.0.113.50 53', '10.10.1.11 53 203.0.113.1 9000');
    await lab.configure(changed);
    await tools.before('conntrack', 'echo no >&2; exit 3');
    t.after(() => tools.before('conntrack'));
    const why = 'conntrack -L -f ipv4 -o id: status 3: no';
    isSaid(`established flows were not looked at: ${why}`, await warningsOf('plan'));
    isSaid(
      `established flows of before may live on: ${why}; they end by themselves when they are idle`,
      await warningsOf('reload'),
    );
  });

  it('flows that somebody else leads elsewhere, again and again', async (t) => {
    const traffic = createTraffic(lab);
    const script =
      'table ip theirs { chain pre { type nat hook prerouting priority -150; ip daddr 203.0.113.50 udp dport 5300 dnat to 10.10.1.12; }; }';
    await lab.router.run(['nft', '-f', '-'], { input: script, check: true });
    const flow = await traffic.startFlow({ from: 'out', to: '203.0.113.50', port: 5300, perSecond: 500 });
    t.after(async () => {
      await flow.stop();
      await lab.router.run(['nft', 'delete', 'table', 'ip', 'theirs'], { check: true });
      await settle();
    });
    for (;;) if ((await lab.router.run(['conntrack', '-L', '-p', 'udp'])).stdout.includes('dport=5300')) break;
    isSaid(
      'warning: 1 established flow of 203.0.113.50 goes on as the file does not say: kylin-vr reload cuts it',
      (await lab.kylin('status')).stdout,
    );
    // Where the sender has no time between two looks, nothing of his is there again.
    let warnings = '';
    for (let tries = 0; tries < 10 && warnings === ''; tries++) warnings = await warningsOf('reload');
    isSaid(
      'new flows of 203.0.113.50 are translated otherwise than the file says, with its rules in force: somebody else decides over them; look at nft list ruleset and ip rule',
      warnings,
    );
  });

  it('more flows to cut than there is time for', async (t) => {
    for (const vm of [50, 20])
      await enter('udp', `203.0.113.1 90${vm} 203.0.113.50 53`, `10.10.1.${vm} 53 203.0.113.1 90${vm}`);
    await tools.before('conntrack', 'case "$*" in -D*) sleep 6 ;; esac');
    await shell("printf '#!/bin/sh\\necho no >&2; exit 3\\n' > /mnt/perl; chmod +x /mnt/perl");
    await shell('mount --bind /mnt/perl /usr/bin/perl');
    t.after(async () => {
      await tools.before('conntrack');
      await shell('umount /usr/bin/perl');
      await settle();
    });
    isSaid(
      '2 established flows that the file translates otherwise may live on: there was no time to cut them all (perl ended with 3: no: conntrack -D reads the whole table for each); the next run goes on',
      await warningsOf('reload'),
    );
  });

  it("the router's own connection, which may be the operator's", async (t) => {
    t.after(async () => {
      await shell('conntrack -F');
      await settle();
    });
    await enter('tcp', '203.0.113.1 9000 203.0.113.37 22', '203.0.113.37 22 203.0.113.1 9000', [
      ...['--state', 'ESTABLISHED', '-u', 'SEEN_REPLY'],
    ]);
    await lab.configure(
      `${elastic.config}  - { eip: 203.0.113.37, protocal: tcp, port: 22, vm-port: 22, vm-ip: 10.10.1.12 }\n`,
    );
    isSaid(
      "the router's own connection 203.0.113.1:9000 → 203.0.113.37:22 goes on as before, though the file leads it elsewhere now: it may be yours; it ends when it is closed",
      await warningsOf('reload'),
    );
  });

  it('what is new since 1.0, where a 1.0 was at work', async (t) => {
    t.after(() => settle());
    await lab.configure(
      elastic.config.replace(/(10\.10\.2\.254.*)(?= })/, '$1, gateway: 10.10.2.1') +
        'route_list:\n  - { dest: 172.24.0.0/16, via: 10.10.1.9 }\n',
    );
    // What a 1.0 has not.
    await shell('rm /run/kylin-vr/flows.json');
    const said = await warningsOf('plan');
    for (const words of [
      'new since 1.0: hosts behind 172.24.0.0/16 are translated as those of their subnet; an entry of snat_list with to: none keeps their source',
      `new since 1.0: what leaves by ${NICS.b.mac}, which is not the first NIC with a gateway, gets its address as source`,
      'new since 1.0: what comes in by an uplink does not leave by it again, and nothing leaves by one for a subnet',
    ])
      isSaid(words, said);
  });

  it('a way back that cannot look', async (t) => {
    t.after(() => settle());
    await lab.configure(more);
    await tools.before('ip', 'case "$*" in -batch*) echo > /mnt/blind; echo no >&2; exit 2 ;; esac');
    await tools.before('iptables-nft-save', '[ ! -e /mnt/blind ] || { echo no >&2; exit 1; }');
    const { stdout } = await lab.kylin('reload', '--json');
    for (const tool of ['ip', 'iptables-nft-save'] as const) await tools.before(tool);
    const { warnings } = JSON.parse(stdout) as { warnings: { message: string }[] };
    isSaid(
      'taking it back: iptables-save -t …: status 1: no; the next reload tries again',
      warnings.map(({ message }) => message).join('\n'),
    );
  });

  it('a rollback that fails, and who then says what he wants', async (t) => {
    t.after(async () => {
      await tools.before('ip');
      await settle();
    });
    await lab.configure(more);
    assert.equal((await lab.kylin('reload', '--confirm-within', '60')).status, 0);
    await tools.before('ip', 'case "$*" in -batch*) echo no >&2; exit 2 ;; esac');
    const back = await lab.kylin('rollback', '--json');
    assert.equal(back.status, 69);
    isSaid(
      'the network could not be brought back to what it was before; the next run tries again',
      (JSON.parse(back.stdout) as { errors: { message: string }[] }).errors[0]?.message ?? '',
    );
    const { stdout } = await lab.kylin('reload', '--json');
    const { warnings } = JSON.parse(stdout) as { warnings: { message: string }[] };
    isSaid(
      'the network could not be brought back to what it was before: it is left as it is',
      warnings.map(({ message }) => message).join('\n'),
    );
  });

  it('a change that cannot wait: its record cannot be written any more', async (t) => {
    t.after(() => shell('umount /var/lib/kylin-vr'));
    t.after(() => settle());
    await lab.configure(more);
    const seal =
      'case "$*" in -batch*) findmnt /var/lib/kylin-vr > /dev/null || mount -o bind,ro /var/lib/kylin-vr /var/lib/kylin-vr ;; esac';
    await tools.before('ip', seal);
    const ended = await lab.kylin('reload', '--confirm-within', '60', '--json');
    await tools.before('ip');
    assert.equal(ended.status, 69);
    isSaid(
      'writing /var/lib/kylin-vr/checkpoint.json: EROFS: …; make it writable (findmnt; dmesg tells of a faulty disk); the change cannot wait for its confirmation, and the next run takes it back: kylin-vr rollback does it now',
      (JSON.parse(ended.stdout) as { errors: { message: string }[] }).errors[0]?.message ?? '',
    );
  });

  it('a foreign file where ours has to be', async (t) => {
    const folder = '/etc/NetworkManager/system-connections';
    t.after(() => shell('rm -r /etc/NetworkManager'));
    await lab.router.write(`${folder}/kylin-vr-eth1.nmconnection`, '[connection]\nid=guests\ntype=wifi\n', 0o600);
    isSaid(
      `- file ${folder}/kylin-vr-eth1.nmconnection (a foreign file where ours has to be), kept as /var/lib/kylin-vr/backup/kylin-vr-eth1.nmconnection`,
      said(await lab.kylin('plan', '--renderer', 'keyfile')),
    );
  });

  it('an announcement without arping', async (t) => {
    t.after(() => settle());
    t.after(() => shell('umount /usr/bin/arping; mv /mnt/arping /usr/sbin; ip neigh delete 203.0.113.9 dev eth0'));
    await shell(`
      mount --bind /dev/null /usr/bin/arping
      mv /usr/sbin/arping /mnt
      ip neigh add 203.0.113.9 lladdr 52:54:00:00:00:99 dev eth0 nud permanent`);
    await lab.configure(more);
    const { warnings } = JSON.parse((await lab.kylin('reload', '--json')).stdout) as {
      warnings: { message: string }[];
    };
    isSaid(
      'announce 203.0.113.51 on eth0 failed, neighbours learn it by themselves in a while: arping is missing: install iputils-arping (iputils on RPM systems)',
      warnings.map(({ message }) => message).join('\n'),
    );
  });

  it('one run for two that wait', async (t) => {
    t.after(() => settle());
    await shell('rm -f /mnt/go');
    await lab.configure(changed);
    await tools.before('ip', 'case "$*" in -batch*) while [ ! -e /mnt/go ]; do sleep 0.1; done ;; esac');
    const first = lab.kylin('reload');
    while (!(await lab.kylin('status')).stdout.includes('at work: ')) await sleep(100);
    const waiting = [1, 2].map(() => lab.router.spawn([process.execPath, PROGRAM, 'reload']));
    const printed = Promise.all(waiting.map(({ stdout }) => text(stdout as Readable)));
    // `waiting for 1 s: …`
    await Promise.all(waiting.map(({ stderr }) => once(stderr as Readable, 'data')));
    await shell('echo > /mnt/go');
    await tools.before('ip');
    assert.equal((await first).status, 0);
    isSaid('reload: unchanged, 0 steps in … ms, by the run that was waited for', (await printed).join(''));
  });

  it('a status while a reload is at work, and the reload that is told to end', async (t) => {
    t.after(() => settle());
    await shell('rm -f /mnt/go');
    await lab.configure(changed);
    await tools.before('ip', 'case "$*" in -batch*) while [ ! -e /mnt/go ]; do sleep 0.1; done ;; esac');
    t.after(() => tools.before('ip'));
    const first = lab.router.spawn([process.execPath, PROGRAM, 'reload', '--confirm-within', '60']);
    let heard = '';
    first.stderr?.on('data', (piece) => {
      heard += String(piece);
    });
    const ended = once(first, 'exit');
    while (!(await lab.kylin('status')).stdout.includes('is being applied')) await sleep(100);
    const { stdout } = await lab.kylin('status');
    isSaid('at work: pid …, reload (operator), since … (…), …', stdout);
    isSaid('to be confirmed: the change of … (run …) is being applied', stdout);
    first.kill('SIGTERM');
    while (!heard.includes('SIGTERM')) await sleep(50);
    isSaid('SIGTERM: the change that has begun is finished first', heard);
    await shell('echo > /mnt/go');
    assert.deepEqual((await ended)[0], 0);
    await lab.kylin('rollback');
  });

  it('a status that is asked for what it cannot do', async () => {
    isSaid(
      'kylin-vr: --watch is for people: without --json and --format',
      said(await lab.kylin('status', '--watch', '--json')),
    );
  });

  it('a file that is not there', async () => {
    const none = '/etc/kylin-vr/none.yaml';
    for (const [args, text] of [
      [['eip', 'list', '--config', none], `${none}: does not exist: write it, or give another with --config`],
      [['push', '--domain', 'vm7', none], `${none}: does not exist: name the file to push`],
      [
        ['explain', '--config', none, '--from', '192.0.2.1', '--to', '203.0.113.50'],
        `${none}: does not exist: write it, or give another with --config`,
      ],
    ] as const) {
      const ended = await lab.kylin(...args);
      assert.equal(ended.status, 65);
      isSaid(`error: ${text}`, said(ended));
    }
  });

  it('a file that is wrong, and one that nobody has applied', async (t) => {
    t.after(() => settle());
    await lab.configure('if_list: 1\n');
    isSaid(
      '/etc/kylin-vr/kylin-vr.yaml is not in force: it is not valid: the last good configuration is',
      said(await lab.kylin('status')),
    );
    await lab.configure(`${elastic.config}# another\n`);
    isSaid('/etc/kylin-vr/kylin-vr.yaml is not in force: it was not applied yet', said(await lab.kylin('status')));
    isSaid('last run: … reload (operator): … in … ms', said(await lab.kylin('status')));
  });

  it('a file that an older program refused, without a reason', async (t) => {
    t.after(() => settle());
    await lab.configure(`${elastic.config}# another\n`);
    await shell('sha256sum /etc/kylin-vr/kylin-vr.yaml | cut -c1-64 | tr -d "\\n" > /var/lib/kylin-vr/refused');
    isSaid(
      '/etc/kylin-vr/kylin-vr.yaml is not in force: it was taken back: kylin-vr reload tries it again',
      said(await lab.kylin('status')),
    );
  });

  it('a push to a domain that libvirt does not know', async (t) => {
    t.after(() => shell('rm /usr/sbin/virsh'));
    await lab.router.write('/usr/sbin/virsh', '#!/bin/sh\necho "error: failed to get domain" >&2; exit 1\n', 0o755);
    const ended = await lab.kylin('push', '--domain', 'vm7', '/etc/kylin-vr/kylin-vr.yaml');
    assert.equal(ended.status, 69);
    isSaid(
      'vm7: error: the guest agent of vm7 is not reached (failed to get domain): is the domain running, has it the channel org.qemu.guest_agent.0, and does qemu-guest-agent run in the guest?',
      ended.stderr,
    );
  });

  it('a configuration that is kept and not valid any more', async (t) => {
    t.after(() => settle());
    await settle(changed);
    const { stdout } = await shell('ls /var/lib/kylin-vr/history | sort | tail -n 1');
    await shell(`echo 'if_list: 1' > /var/lib/kylin-vr/history/${stdout.trim()}`);
    const { status, stdout: report } = await lab.kylin('rollback', '--to', '1', '--json');
    assert.equal(status, 65);
    isSaid(
      '/var/lib/kylin-vr/history/…:1:10: if_list: must be a list, is 1; it is not valid any more: choose another one of kylin-vr rollback --list',
      (JSON.parse(report) as { errors: { message: string }[] }).errors[0]?.message ?? '',
    );
  });

  it('tools that are too old, or missing, for an installation: it does nothing', async (t) => {
    t.after(() => shell('[ ! -e /mnt/away ] || mv /mnt/away /usr/sbin/conntrack'));
    t.after(() => tools.before('ip'));
    await tools.before('ip', 'case "$*" in -V*) echo "ip utility, iproute2-ss161212"; exit 0 ;; esac; exit 1');
    await tools.before(
      'iptables-nft-restore',
      'case "$*" in --version) echo "iptables v1.4.21"; exit 0 ;; --wait*) exit 1 ;; esac',
    );
    t.after(() => tools.before('iptables-nft-restore'));
    await shell('mv /usr/sbin/conntrack /mnt/away');
    const ended = await lab.kylin('install');
    assert.equal(ended.status, 69);
    isSaid('kylin-vr: nothing was installed: …', ended.stderr);
    for (const text of [
      'iproute2 is too old (ip utility, iproute2-ss161212): it knows no -json, which came with 4.18, and what it prints is not as that of 4.11',
      'iptables is too old (iptables v1.4.21): iptables-restore knows no --wait, which came with 1.6.2, and with the 1.4.21 of EL 7',
    ])
      isSaid(`…${text}…`, ended.stderr);
    assert.equal((await shell('ls /usr/local/sbin /usr/sbin | grep -c "^kylin-vr$" || true')).stdout.trim(), '0');
  });

  it('an uninstallation that leaves the network, and one whose flush fails', async () => {
    await settle();
    isSaid(
      'warning: the running network stays as it is until the next boot: only uninstall --flush takes it down before that',
      said(await lab.kylin('uninstall')),
    );
    await tools.before('ip', 'case "$*" in -batch*) echo no >&2; exit 2 ;; esac');
    const ended = await lab.kylin('uninstall', '--flush');
    await tools.before('ip');
    assert.equal(ended.status, 69);
    isSaid(
      'kylin-vr: ip -batch -: status 2: no; nothing was uninstalled, and kylin-vr.service is stopped: mend the cause and run kylin-vr uninstall --flush again, or systemctl start kylin-vr',
      ended.stderr,
    );
  });
});

describe('where a NetworkManager runs that reads no ifcfg files', () => {
  it('files of that format', async (t) => {
    const lab = await createManagedLab('keyfile');
    t.after(() => lab.close());
    await lab.configure(elastic.config);
    await lab.router.run(['mkdir', '-p', '/etc/sysconfig/network-scripts'], { check: true });
    const { status, stdout } = await lab.kylin('reload', '--json');
    assert.equal(status, 69);
    isSaid(
      'NetworkManager did not read the profile of eth0: journalctl -u NetworkManager says why; if it reads no ifcfg files, move /etc/sysconfig/network-scripts away (or use --renderer keyfile) (nmcli …: status 10: …); the network is as it was before; mend the cause and run kylin-vr reload',
      (JSON.parse(stdout) as { errors: { message: string }[] }).errors[0]?.message ?? '',
    );
    await lab.router.run(['mv', '/etc/sysconfig/network-scripts', '/etc/sysconfig/old'], { check: true });
    assert.equal((await lab.kylin('reload')).status, 0, 'what it says helps');
  });
});

describe('on a running system that it is installed on', { concurrency: false }, () => {
  /** Shell, in which "$*" is what systemctl is told; without it systemd does not run. */
  const running = async (t: TestContext, systemctl?: string) => {
    const tree = await createTree(t);
    const shell = (script: string) => tree.run('sh', '-ec', script);
    await tree.write('/run/kylin-vr', readFileSync(PROGRAM, 'utf8'), '0755');
    await shell(`[ -e /usr/bin/node ] || ln -s ${process.execPath} /usr/bin/node`);
    if (systemctl !== undefined) {
      await shell('mkdir -p /run/systemd/system');
      await tree.write('/usr/sbin/systemctl', `#!/bin/sh\n${systemctl}\n`, '0755');
    }
    return { tree, shell, kylin: async (args: string) => said(await shell(`exec node /run/kylin-vr ${args} 2>&1`)) };
  };
  const said = ({ stdout, stderr }: RunResult) => `${stdout}${stderr}`;

  it('without systemd there is nothing to start', async (t) => {
    const { kylin } = await running(t);
    isSaid(
      'warning: systemd does not run here: nothing was started; kylin-vr reload applies the configuration',
      await kylin('install --now'),
    );
  });

  it('on a router at work what an installation changed takes effect soon', async (t) => {
    const { kylin } = await running(t, ':');
    isSaid(
      'kylin-vr is at work: what has changed takes effect with its next run, within a minute',
      await kylin('install'),
    );
  });

  it('firewalld is told by the operator where its reload would take our rules, and nobody would put them back', async (t) => {
    const { tree, shell, kylin } = await running(
      t,
      'case "$*" in *is-active*kylin-vr*) exit 3 ;; *daemon-reload*) echo no >&2; exit 1 ;; esac',
    );
    await shell('mkdir -p /usr/lib/firewalld/policies /var/lib/kylin-vr; echo > /usr/sbin/firewalld');
    await tree.write('/var/lib/kylin-vr/owned.json', '{}');
    const installed = await kylin('install --firewalld');
    isSaid(
      'warning: firewalld does not know its new policy yet: run firewall-cmd --reload, which flushes our rules, and then kylin-vr reload',
      installed,
    );
    isSaid('warning: systemctl daemon-reload: status 1: no; run it again when the cause is gone', installed);
    isSaid(
      'warning: firewalld keeps the policy that was removed until firewall-cmd --reload, which flushes our rules too: run it when the network that still runs is not needed any more',
      await kylin('uninstall'),
    );
  });

  it('the guest agent that runs the installation is not ended by it', async (t) => {
    const { tree, shell } = await running(t, ':');
    await tree.write('/etc/default/qemu-guest-agent', 'DAEMON_ARGS="--block-rpcs=guest-exec"\n');
    await tree.write('/run/cgroup', '0::/system.slice/qemu-guest-agent.service\n');
    isSaid(
      'warning: the guest agent runs this, and its restart would end it: it takes up its new settings with systemctl restart qemu-guest-agent.service in the guest',
      said(await shell('mount --bind /run/cgroup /proc/$$/cgroup; exec node /run/kylin-vr install')),
    );
  });
});

describe('anywhere', () => {
  it('a bug is said to be one, with its stack', (t) => {
    const file = fileOf(t, 'if_list: []\n');
    const hook = `${file}.cjs`;
    writeFileSync(
      hook,
      "const { stringify } = JSON;\nJSON.stringify = () => { JSON.stringify = stringify; throw new TypeError('broken for the test'); };\n",
    );
    const args = ['--require', hook, PROGRAM, 'check', '--json', file];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    assert.equal(status, 1);
    assert.match(stderr, /^kylin-vr: internal error, please report it:\nTypeError: broken for the test\n {4}at /);
    const [error] = (JSON.parse(stdout) as { errors: { message: string }[] }).errors;
    assert.match(error?.message ?? '', /^TypeError: broken for the test\n {4}at /);
  });

  it('text of a tool that is not as it should be', () => {
    const because = (doing: () => unknown, text: string) =>
      assert.throws(doing, (error: Error) => {
        isSaid(text, error.message);
        return true;
      });
    because(() => parseAddresses('{}'), '…not understood (must be an array)…');
    because(() => parseAddresses('[1]'), '…not understood (…: must be an object)…');
    because(
      () => parseAddresses('[{"ifname":"eth0","link_type":"ether","flags":1,"mtu":1}]'),
      '…not understood (…: must be an array)…',
    );
  });

  it('a process in any state', () => {
    const words = [...'RSDTtI'].map((state) => stateInWords({ pid: 1, name: 'x', state, startTime: '1', threads: 1 }));
    assert.deepEqual(words, [
      'running',
      'sleeping',
      'waiting for a device',
      'stopped',
      'stopped by a debugger',
      'in state I',
    ]);
  });

  it('a renderer or a trigger that is none, from within', async () => {
    await assert.rejects(chooseRenderer(linuxHost(), 'netplan'), {
      message: '--renderer must be ifcfg, keyfile or none, is netplan',
    });
    await assert.rejects(triggerOf({} as Context, { trigger: 'me' } as GlobalOptions, 'reload'), {
      message: '--trigger must be one of boot, udev, timer, operator, agent, is me',
    });
  });

  it('a record of an installation that is none', (t) => {
    const root = mkdtempSync(join(tmpdir(), 'kylin-vr-image-'));
    t.after(() => rmSync(root, { recursive: true }));
    mkdirSync(join(root, 'var/lib/kylin-vr'), { recursive: true });
    writeFileSync(join(root, 'var/lib/kylin-vr/installed.json'), '{');
    const { status, stderr } = kylinVr('uninstall', '--root', root);
    assert.equal(status, 69);
    isSaid(`kylin-vr: ${root}/var/lib/kylin-vr/installed.json is no record of an installation (…): remove it`, stderr);
  });

  it('what the machine does not let us do', async () => {
    const host = linuxHost();
    const cases: [doing: () => Promise<unknown>, text: string][] = [
      [() => host.setMode('/nowhere/x', 0o600), 'setting the mode of /nowhere/x: ENOENT: …'],
      [
        () => host.setMode('/proc/self/stat', 0o600),
        'setting the mode of /proc/self/stat: EPERM: …; forbidden even to root: made immutable (lsattr), or kept from this container',
      ],
      [() => host.makeFolder('/nowhere/x', 0o700), 'making the folder /nowhere/x: ENOENT: …'],
      [() => host.removeFolder('/proc/self'), 'removing the folder /proc/self: ENOTDIR: …'],
      [() => host.setSysctl('net/ipv4/nothing', '1'), 'setting sysctl … to 1: …'],
    ];
    for (const [doing, text] of cases)
      await assert.rejects(doing(), (error: Error) => {
        isSaid(text, error.message);
        return true;
      });
  });
});
