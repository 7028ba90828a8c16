// Who asks for a run. Apart from the run itself, so that the command line can be read without loading what carries it out.

/** The first three are automatic: nobody vouches for the file. */
export const TRIGGERS = ['boot', 'udev', 'timer', 'operator', 'agent'] as const;
export type Trigger = (typeof TRIGGERS)[number];

export const isTrigger = (text: string): text is Trigger => TRIGGERS.some((name) => name === text);

export const isAutomatic = (trigger: Trigger): boolean =>
  trigger === 'boot' || trigger === 'udev' || trigger === 'timer';
