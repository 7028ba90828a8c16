// The kinds of entries that the edit commands know, and how they are written on the command line. Loads nothing.

export const NOUN_FORMS = {
  eip: { what: 'elastic IPs', form: 'EIP=VM', name: 'EIP' },
  forward: {
    what: 'forwarded ports',
    form: 'EIP:PORT[-END]/PROTOCOL=VM[:PORT]',
    name: 'EIP:PORT[-END]/PROTOCOL',
  },
  nic: {
    what: 'NICs (attached networks)',
    form: 'MAC=ADDRESS/PREFIX[,gateway=ADDRESS][,mtu=BYTES][,name=NAME]',
    name: 'MAC|ADDRESS',
  },
  route: { what: 'static routes', form: 'NETWORK=GATEWAY', name: 'NETWORK' },
} as const;

export type NounName = keyof typeof NOUN_FORMS;
