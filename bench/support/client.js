import { Agent, request } from "node:http";

/** A client with one connection, which stays open: what is sent goes one after the other. */
export class Client {
  #agent = new Agent({ keepAlive: true, maxSockets: 1 });

  /** @param {import("./lifetime.js").Lifetime} lifetime when it ends, the connection does */
  constructor(lifetime) {
    lifetime.own(() => this.#agent.destroy());
  }

  get(url) {
    return this.#send(url, { method: "GET" });
  }

  post(url, body) {
    const headers = { "Content-Type": "application/json" };
    return this.#send(url, { method: "POST", headers }, JSON.stringify(body));
  }

  /** Resolves to the JSON of the answer, which has to be a success. */
  #send(url, options, body) {
    return new Promise((resolve, reject) => {
      const sent = request(url, { ...options, agent: this.#agent }, (response) => {
        const chunks = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString();
          if (response.statusCode === 200) resolve(JSON.parse(text));
          else reject(new Error(`${options.method} ${url}: ${response.statusCode} ${text}`));
        });
      });
      sent.on("error", reject);
      sent.end(body);
    });
  }
}

/** How long something takes, in milliseconds. */
export async function timed(work) {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

/** Sends JSON and resolves to the answer, which has to be a success. */
export async function post(url, body) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`POST ${url}: ${response.status} ${text}`);
  return { headers: response.headers, body: JSON.parse(text) };
}
