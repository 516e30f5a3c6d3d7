// http_client.js ADDRESS PORT CONNECTIONS: requests over connections that stay; once all are in their lane, large bodies both ways, read
// slowly. Every byte is compared.
'use strict';
const assert = require('node:assert');
const fs = require('node:fs');
const http = require('node:http');
const { once } = require('node:events');
const { setTimeout: pause } = require('node:timers/promises');
const { block } = require('./http_bytes.js');

const [address, port, connections] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const LARGE = 16 << 20, PATIENCE = Number(process.env.E2E_PATIENCE) * 1000;
const expected = Buffer.concat(Array.from({ length: LARGE >> 16 }, (_, i) => block(i)));
const log = /^\w+:(.*)/.exec(process.env.RSOCK_LOG)[1];
const inLane = () => (fs.readFileSync(log, 'utf8').match(/ is in its lane/g) || []).length;

// The answer's body; `slowly`: with pauses, so that its sender has to wait.
async function ask(agent, method, path, body, slowly) {
  const request = http.request({ agent, host: address, port, method, path });
  const answered = once(request, 'response');
  request.end(body);
  const [response] = await answered;
  assert.strictEqual(response.statusCode, 200);
  const parts = [];
  let since = 0;
  for await (const part of response) {
    parts.push(part);
    since += part.length;
    if (!slowly || since < 1 << 21) continue;
    since = 0;
    await pause(20);
  }
  return Buffer.concat(parts);
}

// All that one connection says, one request after the other.
async function talk(ready) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  for (let i = 0; !ready() || i < 50; ++i) {
    const body = expected.subarray(i, i + 1 + (i * 37) % 3000);
    assert(body.equals(await ask(agent, 'POST', '/', body)), 'a small body');
    if (i >= 50) await pause(5);
  }
  const size = LARGE - 12345;
  assert(expected.subarray(0, size).equals(await ask(agent, 'GET', `/${size}`, undefined, true)), 'a large body from there');
  assert(expected.equals(await ask(agent, 'POST', '/', expected, true)), 'a large body there and back');
  for (let i = 0; i < 20; ++i) assert.strictEqual((await ask(agent, 'GET', `/${i}`)).length, i);
  agent.destroy();
}

async function main() {
  const deadline = Date.now() + PATIENCE;
  const ready = () => inLane() >= connections || Date.now() > deadline;
  await Promise.all(Array.from({ length: connections }, () => talk(ready)));
  console.log('every byte right');
}

main();
