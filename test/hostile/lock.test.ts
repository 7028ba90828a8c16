// What lies in the folders of the lock, of whatever kind, full, immutable or mounted, and however many: a machine that boots becomes a
// router, and nothing is taken away that is mounted there.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';

const CONFIG = `if_list:\n  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${NICS.a.mac}' }\n`;
const RUN = '/run/kylin-vr';
/** Of a process of another boot: dead. */
const DEAD = '4711-4711-00000000-00000000';

describe('the folders of the lock', { concurrency: false }, () => {
  let lab: Lab;
  const shell = async (script: string) => {
    const { status, stdout, stderr } = await lab.router.run(['sh', '-ec', script], { timeoutMs: 120_000 });
    assert.equal(status, 0, stderr);
    return stdout.trim();
  };
  const boots = async () => {
    await shell('ip address flush dev eth1; iptables -F; iptables -t nat -F');
    const { status, stdout, stderr } = await lab.router.run(
      [process.execPath, '--max-old-space-size=512', PROGRAM, 'start'],
      { timeoutMs: 40_000 },
    );
    const text = stdout + stderr;
    assert.equal(status, 0, text);
    assert.match(await shell('ip -br -4 address show dev eth1'), /10\.10\.1\.254\/24/, text);
    return text;
  };
  before(async () => {
    lab = await createLab();
    await lab.configure(CONFIG);
    assert.equal((await lab.kylin('reload')).status, 0);
    await shell(`mkdir /run/theirs; echo theirs > /run/theirs/x; mkdir -p ${RUN}/lock ${RUN}/dead`);
  });
  after(() => lab?.close());

  const inTheWay: [what: string, make: string][] = [
    ['a full folder in the lock, and a file of its name among the dead', 'mkdir lock/@; touch lock/@/y dead/@'],
    ['a file in the lock, and a full folder of its name among the dead', 'touch lock/@; mkdir dead/@; touch dead/@/y'],
    ['two full folders of one name', 'mkdir lock/@ dead/@; touch lock/@/y dead/@/y'],
    ['full folders everywhere', 'mkdir dead/@ lock/@; touch dead/@/y lock/@/y'],
  ];
  for (const [what, make] of inTheWay)
    for (const name of ['x', DEAD])
      it(`${what} (${name}): out of the way`, async () => {
        await shell(`cd ${RUN}; mkdir -p lock; ${make.replaceAll('@', name)}`);
        assert.doesNotMatch(await boots(), /warning/);
        assert.equal(await shell(`cd ${RUN}; ls -d lock dead/* 2> /dev/null || true`), '');
        await shell(`rm -rf ${RUN}/*.damaged`);
      });

  const stays: [what: string, make: string, unmake: string][] = ['lock', 'dead'].flatMap((folder) =>
    ['x', DEAD].flatMap((name): [string, string, string][] => {
      const at = `${RUN}/${folder}/${name}`;
      return [
        [`an immutable file in ${folder}/ (${name})`, `touch ${at}; chattr +i ${at}`, `chattr -i ${at}; rm ${at}`],
        [
          `a folder of others mounted in ${folder}/ (${name})`,
          `mkdir ${at}; mount --bind /run/theirs ${at}`,
          `umount ${at}; rmdir ${at}`,
        ],
      ];
    }),
  );
  for (const [what, make, unmake] of [
    ...stays,
    ['lock/ as a mount point', `mount --bind ${RUN}/lock ${RUN}/lock`, `umount ${RUN}/lock`],
    [
      'dead/ as a mounted file',
      `rm -r ${RUN}/dead; touch ${RUN}/dead; mount --bind /run/theirs/x ${RUN}/dead; mkdir -p ${RUN}/lock; touch ${RUN}/lock/${DEAD}`,
      `umount ${RUN}/dead; rm ${RUN}/dead`,
    ],
  ] as const)
    it(`${what}: said, and gone on without`, async () => {
      await shell(`mkdir -p ${RUN}/lock; ${make}`);
      try {
        assert.match(
          await boots(),
          /^warning: \/run\/kylin-vr\/\S+ is in the way, and stays: E(BUSY|PERM|EXIST|NOTDIR)\b/m,
        );
        // One at a time, here too.
        const both = await Promise.all(['reload', 'reload'].map((command) => lab.kylin(command)));
        assert.deepEqual(
          both.map(({ status }) => status),
          [0, 0],
          JSON.stringify(both),
        );
      } finally {
        await shell(unmake);
      }
      assert.equal(await shell('cat /run/theirs/x'), 'theirs');
      assert.doesNotMatch(await boots(), /in the way/);
    });

  it('a full folder that something of others is mounted in: moved, and nothing of theirs is removed', async () => {
    await shell(`mkdir -p ${RUN}/dead/x/y; mount --bind /run/theirs ${RUN}/dead/x/y`);
    await boots();
    assert.equal(await shell(`cat /run/theirs/x; cd ${RUN}; umount x.*.damaged/y; rm -r x.*.damaged`), 'theirs');
  });

  for (const folder of ['lock', 'dead'])
    it(`100,000 files in ${folder}/: soon out of the way`, async () => {
      await shell(`mkdir -p ${RUN}/${folder}; cd ${RUN}/${folder}; seq 100000 | xargs touch`);
      const begun = Date.now();
      await boots();
      assert.ok(Date.now() - begun < 30_000, `${Date.now() - begun} ms`);
      assert.equal(await shell(`ls ${RUN}/${folder} 2> /dev/null | wc -l`), '0');
    });
});
