// SPDX-License-Identifier: BSD-2-Clause
// node run.js CLIENT SCENARIO PORT: exit status 0 if the scenario of ./CLIENT.js held, else what went wrong.
//
// Each scenario has a process of its own and a prefix for its keys, `here.prefix`. Whatever an application would not
// survive is a failure: a rejection or an 'error' event that nobody handles ends node with status 1.
'use strict';

const [name, scenario, port] = process.argv.slice(2);
const scenarios = require(`./${name}.js`);
const here = { port: Number(port), prefix: `${name}:${scenario}:` };

scenarios[scenario](here).then(
    () => process.exit(0), // whatever connections are still open
    (error) => {
        console.error(error);
        process.exit(1);
    },
);
