// Loaded into the program under test (`node --require`): writes down its peak of memory when it ends, in KiB.
'use strict';

const { appendFileSync } = require('node:fs');

process.on('exit', () => appendFileSync('/run/soak-memory', `${process.resourceUsage().maxRSS}\n`));
