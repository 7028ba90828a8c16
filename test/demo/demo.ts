// The demonstration: the real kylin-vr makes a namespace the router between an internet and two tenant subnets, real
// traffic shows what it promises, and nothing stays behind. Ends with 1 when something was not as promised.

import { parseArgs, styleText } from 'node:util';
import { type Check, changeUnderTraffic } from '../lab/change.ts';
import { createLab, type Lab } from '../lab/lab.ts';
import type { RunResult } from '../lab/namespace.ts';
import { elastic, listen, nameOf, observe, type Row, type Scenario, snat } from '../lab/table.ts';
import { createTraffic, type Traffic } from '../lab/traffic.ts';

const { values } = parseArgs({ options: { iptables: { type: 'string', default: 'nft' } } });
const { iptables } = values;
if (iptables !== 'nft' && iptables !== 'legacy') {
  console.error(`--iptables must be nft or legacy, is ${iptables}`);
  process.exit(64);
}

const colours = process.stdout.isTTY && process.stdout.hasColors();
const paint = (style: 'green' | 'red' | 'bold' | 'dim', text: string) => (colours ? styleText(style, text) : text);
const say = (text = '') => console.log(text);
let checked = 0;
let failed = 0;

const lab = await createLab({ iptables });
try {
  await show(lab, createTraffic(lab));
} finally {
  await lab.close();
}
const sum =
  failed === 0 ? paint('green', `All ${checked} checks are ok.`) : paint('red', `${failed} of ${checked} are not ok.`);
say(`\nThe namespaces are removed. ${sum}`);
process.exitCode = failed === 0 ? 0 : 1;

async function show(lab: Lab, traffic: Traffic): Promise<void> {
  say(`
                                                     ┌── 10.10.1.0/24   v .11   w .12
  far 192.0.2.10 ── out 203.0.113.1 ── router .37 ───┤
                                                     └── 10.10.2.0/24   x .21   y .22

Each name is a network namespace of its own. The router runs kylin-vr, with iptables (${iptables}).`);

  await listen(traffic);
  await showScenario(lab, traffic, elastic);

  heading('the same again');
  const again = JSON.parse((await reload(lab, '--json')).stdout);
  showChecks([
    { what: 'a second reload', expected: 'unchanged, 0 steps', saw: `${again.result}, ${again.steps.length} steps` },
  ]);

  heading('a change under traffic');
  const checks = await changeUnderTraffic(traffic, async (config) => {
    say(paint('dim', `${diff(elastic.config, config)}\n`));
    await lab.configure(config);
    say(paint('dim', summary((await reload(lab)).stdout)));
  });
  say();
  showChecks(checks);

  await showScenario(lab, traffic, snat);
}

async function showScenario(lab: Lab, traffic: Traffic, { name, config, promises }: Scenario): Promise<void> {
  heading(name);
  say(paint('dim', `${indent(config)}\n`));
  await lab.configure(config);
  say(paint('dim', summary((await reload(lab)).stdout)));

  const seen = promises.map(async ({ promise, rows }) => ({
    promise,
    checks: await Promise.all(rows.map((row) => checkRow(traffic, row))),
  }));
  for (const { promise, checks } of await Promise.all(seen)) {
    say(`\n${promise}`);
    showChecks(checks);
  }
}

async function checkRow(traffic: Traffic, row: Row): Promise<Check> {
  const { from, to, protocol, port, expected } = row;
  const where = protocol === 'icmp' ? `${to} ping` : `${to} ${protocol} ${port}`;
  const what = `${from.padEnd(6)} → ${nameOf(to).padEnd(14)} ${where.padEnd(22)}`;
  return { what, expected, saw: await observe(traffic, row) };
}

function showChecks(checks: readonly Check[]): void {
  const width = (column: 'what' | 'saw') => Math.max(28, ...checks.map((check) => check[column].length));
  for (const { what, expected, saw } of checks) {
    const ok = saw === expected;
    checked++;
    if (!ok) failed++;
    const verdict = ok ? paint('green', 'ok') : paint('red', `not ok, expected: ${expected}`);
    say(`  ${what.padEnd(width('what'))}  ${saw.padEnd(width('saw'))}  ${verdict}`);
  }
}

async function reload(lab: Lab, ...options: string[]): Promise<RunResult> {
  const from = performance.now();
  const result = await lab.kylin('reload', ...options);
  const { status, stdout, stderr } = result;
  if (status !== 0) throw new Error(`kylin-vr reload ended with ${status}\n${stdout}${stderr}`);
  say(`${paint('bold', '$ kylin-vr reload')}    ${((performance.now() - from) / 1000).toFixed(2)} s`);
  return result;
}

function heading(text: string): void {
  say(`\n\n${paint('bold', `── ${text} ──`)}\n`);
}

function indent(text: string): string {
  return text.trimEnd().replace(/^/gm, '  ');
}

/** A short text whole; of a long one the beginning and the last line. */
function summary(text: string): string {
  const lines = indent(text).split('\n');
  if (lines.length <= 20) return lines.join('\n');
  return [...lines.slice(0, 6), `  … ${lines.length - 7} lines`, lines.at(-1)].join('\n');
}

/** The lines that went and those that came; good for texts that share most lines. */
function diff(before: string, after: string): string {
  const [old, young] = [before.split('\n'), after.split('\n')];
  return [
    ...old.filter((line) => !young.includes(line)).map((line) => `- ${line}`),
    ...young.filter((line) => !old.includes(line)).map((line) => `+ ${line}`),
  ].join('\n');
}
