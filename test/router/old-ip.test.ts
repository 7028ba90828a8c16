// The guests' ip before 4.18, which knows no -json: what is read in words is enough. The scenes of others, on the `ip` of CentOS 7 (a third
// of the suite; npm run test:soak has all of it), and what else the program asks ip.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { createLab } from '../lab/lab.ts';
import { elastic } from '../lab/table.ts';

process.env.KYLIN_VR_IPROUTE = '4.11';
const [{ arrival }, { packets }] = await Promise.all([
  import('../scenarios/arrival.ts'),
  import('../scenarios/packets.ts'),
]);

arrival('ip');
packets('ip');

it('status, plan and explain --live say the same with it', async () => {
  const said = async (iproute: '4.11' | 'own') => {
    const lab = await createLab({ iproute });
    try {
      await lab.configure(elastic.config);
      const refused = await lab.router.run(['env', '-i', '/usr/sbin/ip', '-json', 'link', 'show']);
      assert.equal(refused.status, iproute === '4.11' ? 255 : 0);
      const reload = await lab.kylin('reload');
      assert.equal(reload.status, 0, reload.stderr);
      await lab.router.run(
        [
          'sh',
          '-ec',
          'ip link set eth1 alias "a \\    bridge_slave"; ip address add 192.0.2.77/28 dev eth1 label eth1:x',
        ],
        {
          check: true,
        },
      );
      const answers = [];
      for (const command of [
        ['status', '--json'],
        ['plan', '--json'],
        ['explain', '--live', 'far', elastic.config.includes('203.0.113.50') ? '203.0.113.50' : ''],
      ]) {
        const { status, stdout, stderr } = await lab.kylin(...command);
        answers.push({
          command,
          status,
          stdout: stdout.replace(/"(id|time|durationMs|uptime|age)\w*": [^\n]*/g, ''),
          stderr,
        });
      }
      return answers;
    } finally {
      await lab.close();
    }
  };
  const [old, own] = await Promise.all([said('4.11'), said('own')]);
  assert.deepEqual(old, own);
});
