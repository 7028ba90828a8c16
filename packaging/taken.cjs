// `node --require packaging/taken.cjs kylin-vr.js --version`: says at the end which of the program's compiled code V8 took.

const vm = require('node:vm');

const counts = { taken: 0, refused: 0, 'not there': 0 };
vm.Script = class extends vm.Script {
  constructor(source, options) {
    super(source, options);
    if (options.cachedData === undefined) counts['not there'] += 1;
    else counts[this.cachedDataRejected ? 'refused' : 'taken'] += 1;
  }
};
process.on('exit', () => {
  const said = Object.entries(counts).map(([what, count]) => `${count} ${what}`);
  console.log(`code: ${said.join(', ')}`);
});
