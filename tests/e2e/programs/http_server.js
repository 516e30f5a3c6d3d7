// http_server.js ADDRESS PORT: an HTTP server. POST sends a body back as it comes, at the pace of whoever reads; GET /N sends N bytes that both
// ends know. Ends in order on SIGTERM.
'use strict';
const http = require('node:http');
const { Readable } = require('node:stream');
const { block } = require('./http_bytes.js');

function* body(size) {
  for (let left = size, i = 0; left > 0; ++i) {
    const part = block(i).subarray(0, left);
    left -= part.length;
    yield part;
  }
}

const server = http.createServer((request, response) => {
  if (request.method === 'POST') return request.pipe(response);
  Readable.from(body(Number(request.url.slice(1)))).pipe(response);
});
server.keepAliveTimeout = 60000;
const [address, port] = process.argv.slice(2);
server.listen(Number(port), address, () => console.log('listening'));
process.on('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
});
