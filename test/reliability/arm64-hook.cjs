// Loaded into the program under test (`node --require`): it takes this machine for aarch64.
'use strict';

Object.defineProperty(process, 'arch', { value: 'arm64' });
