// What is played on the machine in memory and on the kernel: configurations, and the states that a router is found in.

import type { Stage } from './scene.ts';

const UPLINK = "{ ipaddr: 203.0.113.37, prefix: 24, mac: '52:54:84:00:08:46', gateway: 203.0.113.1 }";
const SUBNET_A = "{ ipaddr: 10.10.1.254, prefix: 24, mac: '52:54:84:11:00:04' }";
const SUBNET_B = "{ ipaddr: 10.10.2.254, prefix: 24, mac: '52:54:84:11:00:05' }";

type Wanted = {
  nics?: readonly string[];
  eips?: Readonly<Record<string, string>>;
  forwards?: readonly string[];
  routes?: readonly string[];
  snats?: readonly string[];
  more?: string;
};

/** A configuration; `forwards` as `203.0.113.60 tcp 80 10.10.1.12:8080`. */
export function yaml({ nics = [UPLINK, SUBNET_A], eips = {}, forwards = [], routes = [], snats, more = '' }: Wanted) {
  const list = (name: string, items: readonly string[]) =>
    items.length === 0 ? `${name}: []\n` : `${name}:\n${items.map((item) => `  - ${item}\n`).join('')}`;
  return [
    list('if_list', nics),
    list(
      'eip_list',
      Object.entries(eips).map(([eip, vm]) => `{ eip: ${eip}, vm-ip: ${vm} }`),
    ),
    list(
      'port_forward_list',
      forwards.map((forward) => {
        const [eip, protocol, port = '', to = ''] = forward.split(' ');
        const [first, last] = port.split('-');
        const [vm, vmPort] = to.split(':');
        const end = last === undefined ? '' : `, end_port: ${last}`;
        return `{ eip: ${eip}, protocol: ${protocol}, port: ${first}${end}, vm-ip: ${vm}, vm-port: ${vmPort} }`;
      }),
    ),
    list('route_list', routes),
    ...(snats === undefined ? [] : [list('snat_list', snats)]),
    more,
  ].join('');
}

const RELOAD: Stage = { run: {} };
const STATUS: Stage = { status: true };

export const ROUTER: Wanted = {
  eips: { '203.0.113.50': '10.10.1.11' },
  forwards: ['203.0.113.60 tcp 80-82 10.10.1.12:8080'],
  routes: ['{ dest: 172.16.0.0/16, via: 10.10.1.1 }'],
};

const router: Stage[] = [{ config: yaml(ROUTER) }, RELOAD];

const forwards = (count: number) =>
  Array.from({ length: count }, (_, n) => `203.0.113.60 tcp ${1000 + 10 * n} 10.10.1.12:${2000 + n}`);

const flow = (eip: string, vm: string): Stage => ({
  command:
    `conntrack -I -p udp -s 192.0.2.10 -d ${eip} -r ${vm} -q 192.0.2.10 ` +
    '--sport 4001 --dport 53 --reply-port-src 53 --reply-port-dst 4001 -t 300',
});

export const SCENES: Readonly<Record<string, readonly Stage[]>> = {
  'a machine that becomes a router, stays one, and is none any more': [
    ...router,
    RELOAD,
    { config: 'if_list: []\n' },
    RELOAD,
  ],
  'status: of none, of one in force, with flows, and of one that is broken': [
    { config: yaml(ROUTER) },
    STATUS,
    RELOAD,
    STATUS,
    flow('203.0.113.50', '10.10.1.11'),
    flow('203.0.113.70', '10.10.1.70'),
    STATUS,
    { command: 'ip route add 8.8.0.0/16 via 10.10.1.9 dev eth1' },
    { command: 'ip address delete 203.0.113.60/32 dev eth0' },
    { command: 'iptables-restore --noflush', input: '*filter\n-I FORWARD 1 -d 10.10.1.0/24 -j DROP\nCOMMIT\n' },
    STATUS,
  ],
  'EIPs that come, go and change places': [
    ...router,
    { config: yaml({ ...ROUTER, eips: { '203.0.113.51': '10.10.1.11', '203.0.113.50': '10.10.1.12' } }) },
    RELOAD,
    { config: yaml({ ...ROUTER, eips: { '203.0.113.51': '10.10.1.12', '203.0.113.99': '10.10.1.77' } }) },
    RELOAD,
    { config: yaml({}) },
    RELOAD,
  ],
  'one, 16, 17 and 40 forwards on one EIP': [1, 16, 17, 40, 1].flatMap((count): Stage[] => [
    { config: yaml({ forwards: forwards(count) }) },
    RELOAD,
  ]),
  'a second subnet, and its end': [
    { config: yaml({ ...ROUTER, nics: [UPLINK, SUBNET_A, SUBNET_B] }) },
    RELOAD,
    { config: yaml(ROUTER) },
    RELOAD,
  ],
  'routes and their gateways': [
    ...router,
    {
      config: yaml({
        ...ROUTER,
        routes: ['{ dest: 172.16.0.0/16, via: 10.10.1.2 }', '{ dest: 172.24.0.0/24, via: 10.10.1.1 }'],
      }),
    },
    RELOAD,
    { config: yaml({ ...ROUTER, routes: [] }) },
    RELOAD,
  ],
  'sources, and an uplink whose hosts reach nobody': [
    {
      config: yaml({
        ...ROUTER,
        snats: ['{ source: 10.10.1.0/25, to: 203.0.113.40 }', '{ source: 10.10.1.128/25, to: none }'],
        more: 'from-uplink: drop\n',
      }),
    },
    RELOAD,
    { config: yaml({ ...ROUTER, snats: ['{ source: 10.10.1.0/24, to: masquerade }'] }) },
    RELOAD,
    { config: yaml({ ...ROUTER, snats: [] }) },
    RELOAD,
  ],
  'another address in the same subnet, and another subnet': [
    ...router,
    { config: yaml({ ...ROUTER, nics: [UPLINK, SUBNET_A.replace('1.254', '1.253')] }) },
    RELOAD,
    { config: yaml({ nics: [UPLINK, SUBNET_A.replace('1.254', '7.1')] }) },
    RELOAD,
  ],
  'an MTU, and the way back': [
    ...router,
    { config: yaml({ ...ROUTER, nics: [UPLINK, SUBNET_A.replace(' }', ', mtu: 1400 }')] }) },
    RELOAD,
    { config: yaml(ROUTER) },
    RELOAD,
  ],
  'what somebody took away comes again': [
    ...router,
    { command: 'ip address delete 203.0.113.50/32 dev eth0' },
    { command: 'ip route delete 172.16.0.0/16 via 10.10.1.1 dev eth1' },
    {
      command: 'iptables-restore --noflush',
      input: '*nat\n-D KYLIN-VR-D28-203.0.113.48 -d 203.0.113.50/32 -j DNAT --to-destination 10.10.1.11\nCOMMIT\n',
    },
    RELOAD,
    { command: 'ip link set dev eth1 down' },
    RELOAD,
    {
      command: 'iptables-restore --noflush',
      input: '*nat\n-D PREROUTING -j KYLIN-VR-DNAT\nCOMMIT\n*filter\n-D FORWARD -j KYLIN-VR-FORWARD\nCOMMIT\n',
    },
    { command: 'ip address delete 203.0.113.37/24 dev eth0' },
    RELOAD,
  ],
  'what is somebody else’s stays, or goes by what the file says': [
    { command: 'ip link set dev eth0 up' },
    { command: 'ip link set dev eth1 up' },
    { command: 'ip address add 10.10.1.9/24 dev eth1' },
    { command: 'ip address add 10.10.1.10/24 dev eth1' },
    { command: 'ip route add 198.51.100.0/24 via 10.10.1.2 dev eth1' },
    {
      command: 'iptables-restore --noflush',
      input: '*filter\n:SOMEBODYS - [0:0]\n-A FORWARD -j SOMEBODYS\n-A SOMEBODYS -s 10.10.9.0/24 -j DROP\nCOMMIT\n',
    },
    ...router,
    RELOAD,
  ],
  'what the kernel refuses leaves all as it was': [
    ...router,
    ...[
      ['link set dev eth9 up', 1],
      ['address add 203.0.113.50/32 dev eth0', 2],
      ['address delete 203.0.113.77/32 dev eth0', 2],
      ['route add 198.51.100.0/24 via 192.0.2.1 dev eth1', 2],
      ['route add 172.16.0.0/16 via 10.10.1.9 dev eth1', 2],
      ['route prepend 172.16.0.0/16 via 10.10.1.1 dev eth1 proto 175', 2],
      ['route append 172.16.0.0/16 via 10.10.1.1 dev eth1 proto 175', 2],
      ['route delete 172.17.0.0/16 via 10.10.1.1 dev eth1', 2],
      ['route add 198.51.100.0/24 via 10.10.2.1 dev eth2', 2],
      ['route add 198.51.100.0/24 via 10.10.1.1 dev eth1 src 10.10.9.9', 2],
    ].map(([words, refused]): Stage => ({ command: `ip ${words}`, refused: Number(refused) })),
    ...[
      ['-X KYLIN-VR-DNAT', 4],
      ['-A KYLIN-VR-DNAT -j NOBODYS', 2],
      ['-A KYLIN-VR-DNAT -p tcp -m tcp --dport 1:2 -j DNAT --to-destination 192.0.2.1:3-4/x', 2],
      ['-A NOBODYS -j ACCEPT', 1],
      ['-D KYLIN-VR-DNAT -d 192.0.2.0/24 -j ACCEPT', 1],
      [':KYLIN-VR-DNAT - [0:0]\n-X KYLIN-VR-DNAT', 4],
      [':KYLIN-VR-WHOSE-NAME-IS-TOO-LONG-FOR-IT - [0:0]', 2],
    ].map(
      ([lines, refused]): Stage => ({
        ...{ command: 'iptables-restore --noflush', input: `*nat\n${lines}\nCOMMIT\n` },
        refused: Number(refused),
      }),
    ),
    {
      command: 'iptables-restore --noflush',
      input: '*filter\n:SOMEBODYS - [0:0]\nCOMMIT\n*nat\n-X NOBODYS\nCOMMIT\n',
      refused: 1,
    },
    {
      command: 'ip -batch -',
      input:
        'address add 10.10.1.7/24 dev eth1\naddress add 10.10.1.7/24 dev eth1\naddress add 10.10.1.8/24 dev eth1\n',
      refused: 1,
    },
    {
      command: 'ip -force -batch -',
      input: 'route delete 172.17.0.0/16\nroute append 172.17.0.0/16 via 10.10.1.5 dev eth1\n',
      refused: 1,
    },
    RELOAD,
  ],
  'flows that are under way, and go or stay': [
    { config: yaml({ ...ROUTER, eips: { '203.0.113.50': '10.10.1.11', '203.0.113.70': '10.10.1.70' } }) },
    RELOAD,
    flow('203.0.113.50', '10.10.1.11'),
    flow('203.0.113.70', '10.10.1.70'),
    RELOAD,
    { config: yaml({ ...ROUTER, eips: { '203.0.113.50': '10.10.1.12', '203.0.113.70': '10.10.1.70' } }) },
    RELOAD,
    { config: yaml(ROUTER) },
    RELOAD,
  ],
  'a file with mistakes, and one that comes right': [
    ...router,
    { config: yaml(ROUTER).replace('10.10.1.254', '10.10.1.300') },
    RELOAD,
    { config: yaml({ ...ROUTER, eips: {} }) },
    RELOAD,
  ],
  'profiles of NetworkManager': [
    { folder: '/etc/NetworkManager/system-connections' },
    ...router,
    { config: yaml({ ...ROUTER, eips: {}, nics: [UPLINK, SUBNET_B] }) },
    RELOAD,
    { config: 'if_list: []\n' },
    RELOAD,
  ],
  'profiles of initscripts, where others are': [
    { folder: '/etc/sysconfig/network-scripts' },
    {
      file: '/etc/sysconfig/network-scripts/ifcfg-eth0',
      content: 'DEVICE=eth0\nONBOOT=yes\nBOOTPROTO=static\nIPADDR=203.0.113.37\nPREFIX=24\n',
    },
    ...router,
    { config: yaml({ ...ROUTER, eips: {}, nics: [UPLINK, SUBNET_B] }) },
    RELOAD,
    { config: 'if_list: []\n' },
    RELOAD,
  ],
  'a boot': [{ config: yaml(ROUTER) }, { run: { command: 'start', trigger: 'boot' } }, RELOAD],
  'a change that is confirmed': [
    ...router,
    { config: yaml({ ...ROUTER, eips: { '203.0.113.51': '10.10.1.12' } }) },
    { reloadWithin: 60 },
    { run: { command: 'confirm' } },
    RELOAD,
  ],
  'a change that lapses': [
    ...router,
    { config: yaml({ ...ROUTER, eips: { '203.0.113.51': '10.10.1.12' }, routes: [] }) },
    { reloadWithin: 1 },
    { wait: 1.2 },
    { run: { trigger: 'timer', settled: 'unsettled' } },
    RELOAD,
  ],
  'a change that is taken back, and an earlier one': [
    ...router,
    { config: yaml({ ...ROUTER, eips: { '203.0.113.51': '10.10.1.12' } }) },
    RELOAD,
    { config: yaml({}) },
    RELOAD,
    { run: { command: 'rollback' } },
    { run: { command: 'rollback', to: 3 } },
  ],
};

/** Of them, those that are played with iptables-legacy as well. */
export const WITH_LEGACY: readonly string[] = [
  'a machine that becomes a router, stays one, and is none any more',
  'status: of none, of one in force, with flows, and of one that is broken',
  'EIPs that come, go and change places',
  'what somebody took away comes again',
];

/** On a machine whose NICs NetworkManager has. */
export const MANAGED_SCENES: Readonly<Record<string, readonly Stage[]>> = {
  'profiles that come, change, and go': [
    ...router,
    RELOAD,
    { config: yaml({ ...ROUTER, eips: { '203.0.113.51': '10.10.1.12' }, routes: [] }) },
    RELOAD,
    { config: yaml({ ...ROUTER, nics: [UPLINK, SUBNET_A, SUBNET_B] }) },
    RELOAD,
    { config: 'if_list: []\n' },
    RELOAD,
  ],
  'a change that is taken back, and one that lapses': [
    ...router,
    { config: yaml({ ...ROUTER, eips: { '203.0.113.51': '10.10.1.12' } }) },
    { reloadWithin: 60 },
    { run: { command: 'rollback' } },
    { config: yaml({ ...ROUTER, eips: { '203.0.113.52': '10.10.1.12' } }) },
    { reloadWithin: 60 },
    { run: { command: 'confirm' } },
    RELOAD,
  ],
  'addresses that somebody takes away, and an address of his own': [
    ...router,
    { command: 'ip address delete 203.0.113.50/32 dev eth0' },
    { command: 'ip address add 203.0.113.99/32 dev eth0' },
    { run: { trigger: 'timer' } },
    RELOAD,
  ],
  'a profile of somebody else': [
    {
      file: '/etc/NetworkManager/system-connections/theirs.nmconnection',
      content:
        '[connection]\nid=theirs\nuuid=11111111-2222-4333-8444-555555555555\ntype=ethernet\ninterface-name=eth1\n[ipv4]\nmethod=manual\naddress1=10.10.1.7/24\n[ipv6]\nmethod=ignore\n',
    },
    ...router,
    RELOAD,
  ],
};
