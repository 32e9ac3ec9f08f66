#!/usr/bin/env node
// `npm test`: every check of the project. Those that need no build run beside it; all are run, and all failures shown.
import { spawn } from "node:child_process";
import { performance } from "node:perf_hooks";

const bin = (name) => `node_modules/.bin/${name}`;

const checks = [
  ["format", bin("prettier"), ["--check", "--log-level", "warn", "."]],
  ["lint", bin("eslint"), ["."]],
  ["types", bin("tsc"), ["--noEmit"]],
  ["imports", bin("depcruise"), ["--output-type", "err", "src", "test"]],
];

/** Runs a command; what it prints is shown only when it fails. */
function quietly([name, command, args]) {
  const started = performance.now();
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    child.stdout.on("data", (chunk) => (output += chunk));
    child.stderr.on("data", (chunk) => (output += chunk));
    child.on("close", (code) => {
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      console.log(`${code === 0 ? "ok    " : "FAILED"} ${name} (${seconds} s)`);
      if (code !== 0) console.log(output);
      resolve(code === 0);
    });
  });
}

function openly(command, args) {
  return new Promise((resolve) => {
    spawn(command, args, { stdio: "inherit" }).on("close", (code) => resolve(code === 0));
  });
}

const results = [await quietly(["build", process.execPath, ["scripts/build.js"]])];
for (const check of checks) results.push(await quietly(check));
results.push(await openly(bin("vitest"), ["run"]));
process.exitCode = results.every(Boolean) ? 0 : 1;
