// What the HTTP server and its client say to each other: block i of an endless stream.
'use strict';
const SIZE = 1 << 16;

exports.block = (i) => {
  const part = Buffer.alloc(SIZE);
  for (let at = 0, word = (i * 2654435761) >>> 0; at < SIZE; at += 4) {
    word = (Math.imul(word, 1664525) + 1013904223) >>> 0;
    part.writeUInt32LE(word, at);
  }
  return part;
};
