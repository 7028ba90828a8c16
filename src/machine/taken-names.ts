// Chains of others in nft that have the name of one which a change needs: iptables would find out in the middle of it.

import { AgentError, EXIT } from '../base/errors.ts';
import { ShapeError } from '../base/shape.ts';
import { isBuiltIn, type NftChain, parseNftChains } from '../dialects/filters.ts';
import type { Step } from '../network/step.ts';
import type { Host } from './host.ts';
import { usesNft } from './observe.ts';

/** Asked only where a jump of ours is to come: once it is there, its chain is one of iptables'. */
export async function refuseTaken(host: Host, steps: readonly Step[]): Promise<void> {
  if (!steps.some(({ kind }) => kind === 'add-jump')) return;
  if (!(await usesNft(host)) || (await host.which('nft')) === undefined) return;
  const taken = (await chainsOf(host)).find(
    (chain) => chain.family === 'ip' && steps.some((step) => isNeeded(step, chain)),
  );
  if (taken === undefined) return;
  const { table, name, hook } = taken;
  const how = hook === undefined ? 'it has no hook' : `its hook is ${hook}, its priority ${taken.priority}`;
  throw new AgentError(
    `nothing was changed: the chain ${name} in the table ip ${table} is somebody's, and not what iptables needs by that name (${how}): ` +
      `give it another one (nft rename chain ip ${table} ${name} NAME), then run kylin-vr reload`,
    EXIT.failed,
  );
}

function isNeeded(step: Step, chain: NftChain): boolean {
  const { table, name } = chain;
  if (step.kind === 'add-jump') return step.jump.table === table && step.jump.hook === name && !isBuiltIn(chain);
  return (
    step.kind === 'add-chain' && step.chain.table === table && step.chain.name === name && chain.hook !== undefined
  );
}

async function chainsOf(host: Host): Promise<NftChain[]> {
  const { stdout } = await host.run(['nft', '-j', 'list', 'chains'], { accept: [1] });
  try {
    return parseNftChains(stdout);
  } catch (error) {
    // Another nft: iptables says what is wrong.
    if (!(error instanceof SyntaxError || error instanceof ShapeError)) throw error;
    return [];
  }
}
