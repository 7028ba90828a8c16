// The guests' ip before 4.18, which knows no -json: what is read in words is enough. The scenes of others, on the `ip` of CentOS 7 (a third
// of the suite; npm run test:soak has all of it), and what else the program asks ip.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { createLab } from '../lab/lab.ts';
import { elastic } from '../lab/table.ts';
import { recordTools } from '../lab/tools.ts';

process.env.KYLIN_VR_IPROUTE = '4.11';
const [{ arrival }, { packets }] = await Promise.all([
  import('../scenarios/arrival.ts'),
  import('../scenarios/packets.ts'),
]);

arrival('ip');
packets('ip');

type Ip = {
  iproute?: '4.11';
  /** What stands before the machine's own. */
  before?: string;
};

/** Up to 4.16: what it knows in JSON is on many lines, and the rest in words. */
const MIXED = `case " $* " in *" -json "* | *" -j "*)
  case " $* " in *" -b "* | *" -batch "*) lines=$(cat) ;; *) lines=$(echo "$*" | sed -E 's/^(-[^ ]+ +)*//') ;; esac
  options=
  for word; do case "$word" in -json | -j | -b | -batch | -) ;; -*) options="$options $word" ;; *) break ;; esac; done
  echo "$lines" | while read -r line; do
    case "$line" in address* | link*) $real -json -pretty $options $line ;; *) $real $options $line ;; esac
  done
  exit 0 ;;
esac`;

/** Up to 4.18.0. */
const NAMELESS = `case " $* " in *" -json "* | *" -j "*) $real "$@" | sed -E 's/\\{"type":("[a-z]+"),/{\\1,/g'; exit 0 ;; esac`;

/** Of what a run prints, what does not go by the time. */
async function saidWith({ iproute, before }: Ip) {
  const lab = await createLab({ iproute: iproute ?? 'own' });
  try {
    const tools = await recordTools(lab.router);
    if (before !== undefined) await tools.before('ip', before);
    await lab.configure(elastic.config);
    const refused = await lab.router.run(['env', '-i', '/usr/sbin/ip', '-json', 'link', 'show']);
    assert.equal(refused.status, iproute === '4.11' ? 255 : 0);
    const reload = await lab.kylin('reload');
    assert.equal(reload.status, 0, reload.stderr);
    const odd = 'ip link set eth1 alias "a \\    bridge_slave"; ip address add 192.0.2.77/28 dev eth1 label eth1:x';
    await lab.router.run(['sh', '-ec', odd], { check: true });
    const said = [];
    for (const command of [
      ['status', '--json'],
      ['plan', '--json'],
      ['explain', '--live', 'far', '203.0.113.50'],
    ]) {
      const { status, stdout, stderr } = await lab.kylin(...command);
      said.push({
        command,
        status,
        stdout: stdout.replace(/"(id|time|durationMs|uptime|age)\w*": [^\n]*/g, ''),
        stderr,
      });
    }
    return said;
  } finally {
    await lab.close();
  }
}

it('status, plan and explain --live say the same with it, and with those that know a part of -json', async () => {
  const [own, ...others] = await Promise.all(
    [{}, { iproute: '4.11' } as const, { before: MIXED }, { before: NAMELESS }].map(saidWith),
  );
  for (const said of others) assert.deepEqual(said, own);
});
