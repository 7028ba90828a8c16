// `completion`: what a shell offers after `kylin-vr`, from the definitions of the commands themselves. Pure.

import type { Argument, Command, Option } from 'commander';

export type Shell = 'bash' | 'zsh' | 'fish';

export function completionScript(shell: Shell, program: Command): string {
  const levels = levelsOf(program);
  if (shell === 'bash') return bash(levels);
  return shell === 'zsh' ? zsh(levels) : fish(levels);
}

/** What may come after a command: `path` is the words that lead to it, none for kylin-vr itself. */
type Level = { path: string; commands: Word[]; options: Word[]; choices: string[]; files: boolean };
type Word = { name: string; text: string; value: 'none' | 'file' | 'any' | readonly string[] };

function levelsOf(command: Command, path: readonly string[] = [], inherited: readonly Word[] = []): Level[] {
  const shown = command.commands.filter((child) => child.name() !== 'help');
  const own = command.options.filter(({ hidden }) => !hidden).map(optionWord);
  const options = [...own, ...inherited];
  const help = { name: '--help', text: 'show what there is', value: 'none' } as const;
  const here: Level = {
    path: path.join(' '),
    commands: shown.map((child) => ({ name: child.name(), text: child.description(), value: 'none' })),
    options: [...options, help],
    choices: command.registeredArguments.flatMap(({ argChoices = [] }) => argChoices),
    files: command.registeredArguments.some(isFile),
  };
  const passedOn = options.filter(({ name }) => name !== '--version');
  return [here, ...shown.flatMap((child) => levelsOf(child, [...path, child.name()], passedOn))];
}

function optionWord({ long, short, description, argChoices, required, optional, flags }: Option): Word {
  const name = long ?? short ?? '';
  if (argChoices !== undefined) return { name, text: description, value: argChoices };
  if (!required && !optional) return { name, text: description, value: 'none' };
  return { name, text: description, value: /<(file|dir)>/.test(flags) ? 'file' : 'any' };
}

const isFile = (argument: Argument): boolean => argument.name() === 'file';

/** Every option that takes a value, once. */
function valued(levels: readonly Level[]): Word[] {
  const words = levels.flatMap(({ options }) => options.filter(({ value }) => value !== 'none'));
  return [...new Map(words.map((word) => [word.name, word])).values()];
}

const names = (words: readonly Word[]): string[] => words.map(({ name }) => name);
const below = (levels: readonly Level[]) => levels.filter(({ path }) => path !== '');

/** The `case` by which bash and zsh find out which command the words before lead to. */
const steps = (levels: readonly Level[]): string =>
  below(levels)
    .map(({ path }) => `'${path}'`)
    .join(' | ');

function bash(levels: readonly Level[]): string {
  const ofOption = valued(levels).map(({ name, value }) => {
    if (value === 'file') return `    ${name}) COMPREPLY=($(compgen -f -- "$cur")); return ;;`;
    if (value === 'any') return `    ${name}) return ;;`;
    return `    ${name}) COMPREPLY=($(compgen -W '${[value].flat().join(' ')}' -- "$cur")); return ;;`;
  });
  const ofCommand = levels.map(({ path, commands, options, choices, files }) => {
    const words = [...names(commands), ...choices, ...names(options)].join(' ');
    return `    '${path}') words='${words}'${files ? ' files=yes' : ''} ;;`;
  });
  return `# Completion of kylin-vr for bash; made by: kylin-vr completion bash
_kylin_vr() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} path='' words='' files='' word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${path:+$path }$word" in
      ${steps(levels)}) path="\${path:+$path }$word" ;;
    esac
  done
  case $prev in
${ofOption.join('\n')}
  esac
  case $path in
${ofCommand.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  if [ -n "$files" ]; then COMPREPLY+=($(compgen -f -- "$cur")); fi
}
complete -o filenames -F _kylin_vr kylin-vr
`;
}

function zsh(levels: readonly Level[]): string {
  const ofOption = valued(levels).map(({ name, value }) => {
    if (value === 'file') return `  ${name}) _files; return ;;`;
    if (value === 'any') return `  ${name}) return ;;`;
    return `  ${name}) compadd -- ${[value].flat().join(' ')}; return ;;`;
  });
  const described = (words: readonly Word[]) =>
    words.map(({ name, text }) => `'${name}:${text.replaceAll("'", "'\\''").replaceAll(':', '\\:')}'`).join(' ');
  const ofCommand = levels.map(({ path, commands, options, choices, files }) => {
    const offers = [
      commands.length > 0 ? `offers=(${described(commands)}); _describe command offers` : '',
      choices.length > 0 ? `compadd -- ${choices.join(' ')}` : '',
      `offers=(${described(options)}); _describe option offers`,
      files ? '_files' : '',
    ];
    return `  '${path}') ${offers.filter((offer) => offer !== '').join('; ')} ;;`;
  });
  return `#compdef kylin-vr
# Completion of kylin-vr for zsh; made by: kylin-vr completion zsh
local where='' word
local -a offers
for word in \${words[2,CURRENT-1]}; do
  case "\${where:+$where }$word" in
    ${steps(levels)}) where="\${where:+$where }$word" ;;
  esac
done
case \${words[CURRENT-1]} in
${ofOption.join('\n')}
esac
case $where in
${ofCommand.join('\n')}
esac
`;
}

function fish(levels: readonly Level[]): string {
  const quoted = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const lines = levels.flatMap(({ path, commands, options, choices, files }) => {
    const next = names(commands).join(' ');
    const words = path === '' ? [] : path.split(' ').map((word) => `__fish_seen_subcommand_from ${word}`);
    const when = [...words, ...(next === '' ? [] : [`not __fish_seen_subcommand_from ${next}`])].join('; and ');
    const complete = `complete -c kylin-vr -n ${quoted(when)}`;
    return [
      ...commands.map(({ name, text }) => `${complete} -a ${name} -d ${quoted(text)}`),
      ...(choices.length > 0 ? [`${complete} -a ${quoted(choices.join(' '))}`] : []),
      ...options.map(({ name, text, value }) => {
        const takes =
          value === 'none'
            ? ''
            : value === 'file'
              ? ' -r -F'
              : value === 'any'
                ? ' -x'
                : ` -x -a ${quoted([value].flat().join(' '))}`;
        return `${complete} -l ${name.replace(/^--/, '')}${takes} -d ${quoted(text)}`;
      }),
      ...(files ? [`${complete} -F`] : []),
    ];
  });
  return `# Completion of kylin-vr for fish; made by: kylin-vr completion fish\ncomplete -c kylin-vr -f\n${lines.join('\n')}\n`;
}
