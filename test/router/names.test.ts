// Names that the kernel allows and others do not: what is foreign is left out, what is ours is named, and the rest is served.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { apply, everything, json, one, shell, warningsOf } from '../confirm/router.ts';
import { createLab, type Lab, NICS } from '../lab/lab.ts';

const ODD = ['\u0001', 'a\u001b[31mb', '-foo', 'a+', 'é', 'q"q', "it's", 'b\\s', '#x', '*', '\u202e'];
const { mac, device } = NICS.a;

const ip = (lab: Lab, ...args: string[]) => lab.router.run(['ip', ...args], { check: true });

describe('odd names', { concurrency: true }, () => {
  it('of foreign links, aliases, alternative names and labels are nothing to us', async (t) => {
    const lab = await createLab();
    t.after(() => lab.close());
    for (const [n, name] of ODD.entries()) {
      await ip(lab, 'link', 'add', 'name', name, 'type', 'bridge');
      await ip(lab, 'link', 'set', 'dev', 'lo', 'alias', `${name}\n\t\u007f`);
      await ip(lab, 'link', 'property', 'add', 'dev', 'lo', 'altname', `alt${name}`);
      await ip(lab, 'address', 'add', `192.0.2.${n}/32`, 'dev', 'lo', 'label', `lo:${name} \n`);
    }
    await shell(lab, 'ip link add name "$(printf \'\\377\')" type bridge');
    await ip(lab, 'address', 'add', '169.254.9.9/16', 'dev', device, 'scope', 'link', 'label', `${device}:\u0001 \n"`);
    await lab.configure(one);
    for (const result of ['changed', 'unchanged']) {
      const report = await json(lab, 'reload');
      assert.deepEqual([report.status, report.result, warningsOf(report)], [0, result, []]);
    }
    for (const command of ['status', 'plan']) assert.equal((await lab.kylin(command)).status, 0, command);
    await apply(lab, 'if_list: []\n');
    assert.doesNotMatch(await everything(lab), /203\.0\.113|KYLIN/);
  });

  it('of a NIC of ours keep nothing of ours there: an empty if_list takes it down', async (t) => {
    const lab = await createLab();
    t.after(() => lab.close());
    await ip(lab, 'link', 'set', 'dev', 'eth2', 'up');
    for (const name of ODD) {
      await apply(lab, `${one}route_list:\n  - { dest: 172.16.0.0/12, via: 10.10.1.11 }\n`);
      await ip(lab, 'address', 'add', '10.10.1.99/24', 'dev', device);
      // A newer kernel gives it another name while it is up, and its routes stay.
      await ip(lab, 'link', 'set', 'dev', device, 'name', name);
      await lab.configure('if_list: []\n');
      const report = await json(lab, 'reload');
      assert.deepEqual([report.status, report.result, warningsOf(report)], [0, 'changed', []], name);
      assert.doesNotMatch(await everything(lab), /10\.10\.1\.254|172\.16\.0\.0|KYLIN/);
      await ip(lab, 'link', 'set', 'dev', name, 'name', device);
      assert.match(await shell(lab, `ip -4 -o address show dev ${device}`), / 10\.10\.1\.99\/24 /);
    }
  });

  it('of a NIC of ours that is no text: what stays there is said, and goes once it has another', async (t) => {
    const lab = await createLab();
    t.after(() => lab.close());
    await apply(lab, one);
    await shell(lab, `ip link set ${device} down; ip link set ${device} name "$(printf 'a\\377')"`);
    const number = (await shell(lab, `ip -o link show | grep ${mac} | cut -d: -f1`)).trim();
    await lab.configure('if_list: []\n');
    for (let n = 0; n < 3; n++) {
      const report = await json(lab, 'reload');
      assert.deepEqual(
        [report.status, report.result, report.errors],
        [
          69,
          'failed',
          [
            {
              message: `10.10.1.254/24 stays on a\ufffd, whose name is no text that a command could be given: give it another: ip link set dev if${number} name ANOTHER, then run kylin-vr reload`,
            },
          ],
        ],
      );
    }
    assert.doesNotMatch(await everything(lab), /203\.0\.113|KYLIN/);
    await shell(lab, `ip link set dev if${number} name lan0`);
    assert.equal((await json(lab, 'reload')).status, 0);
    assert.equal(await shell(lab, 'ip -4 -o address show dev lan0'), '');
  });

  describe('of a NIC of ours', { concurrency: false }, () => {
    let lab: Lab;
    before(async () => {
      lab = await createLab({ networkScripts: true });
      await apply(lab, one);
    });
    after(() => lab?.close());

    for (const name of ODD)
      it(`${JSON.stringify(name)} is named, with what is wrong with it; the other NICs are served, and it is once it has another`, async () => {
        await shell(lab, `ip link set ${device} down; ip address add 10.10.2.99/24 dev eth2`);
        await ip(lab, 'link', 'set', 'dev', device, 'name', name);
        const report = await json(lab, 'reload');
        const shown = name.replace('\u0001', '␁').replace('\u001b', '␛').replace('\u202e', '<U+202E>');
        assert.deepEqual(
          [report.status, warningsOf(report)],
          [
            0,
            [
              `NIC ${mac} is not used: its name ${shown} cannot stand in rules and files: letters, digits, _ . @ and - can, with a letter, a digit or _ in front; give it another: ip link set dev NAME name ANOTHER`,
            ],
          ],
        );
        assert.ok(report.steps.some(({ text }) => text === '- address 10.10.2.99/24 on eth2 (foreign)'));
        await ip(lab, 'link', 'set', 'dev', name, 'name', device);
        const again = await json(lab, 'reload');
        assert.deepEqual([again.status, warningsOf(again)], [0, []]);
        assert.match(await shell(lab, `ip -4 -o address show dev ${device}`), / 10\.10\.1\.254\/24 /);
      });

    for (const name of ['x.bak', 'x.orig', 'x.old', 'eth1-range0'])
      it(`${name}, whose profile would be passed over as a backup: said, and served without one`, async () => {
        await shell(lab, `ip link set ${device} down; ip link set ${device} name ${name}`);
        for (const result of ['changed', 'unchanged']) {
          const report = await json(lab, 'reload');
          assert.deepEqual(
            [report.status, report.result, warningsOf(report)],
            [
              0,
              result,
              [
                `${name} has no profile: a file named ifcfg-${name} is passed over as a backup, so kylin-vr alone sets it up; give it another name: ip link set dev ${name} name ANOTHER`,
              ],
            ],
          );
        }
        assert.match(await shell(lab, `ip -4 -o address show dev ${name} up`), / 10\.10\.1\.254\/24 /);
        await shell(lab, `ip link set ${name} down; ip link set ${name} name ${device}`);
        const again = await json(lab, 'reload');
        assert.deepEqual([again.status, warningsOf(again)], [0, []]);
      });
  });
});
