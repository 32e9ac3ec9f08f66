// The import rules of ARCHITECTURE.md, checked by `npm run lint`.
const only = (name, from, allowed, comment) => ({
  name,
  comment,
  severity: "error",
  from: { path: from },
  to: { path: "^src/", pathNot: allowed },
});

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    only(
      "protocol-is-the-bottom",
      "^src/protocol/",
      "^src/protocol/",
      "protocol imports nothing of ours",
    ),
    only(
      "store-stands-on-protocol",
      "^src/store/",
      "^src/(store|protocol)/",
      "store imports protocol",
    ),
    only(
      "watch-stands-on-store",
      "^src/watch/",
      "^src/(watch|store|protocol)/",
      "watch imports store",
    ),
    only(
      "configs-stand-on-store-and-watch",
      "^src/configs/",
      "^src/(configs|store|watch|protocol)/",
      "configs imports store and watch",
    ),
    only(
      "secrets-stand-on-store",
      "^src/secrets/",
      "^src/(secrets|store|protocol)/",
      "secrets imports store",
    ),
    only(
      "auth-stands-on-store-and-watch",
      "^src/auth/",
      "^src/(auth|store|watch|protocol)/|^src/secrets/sealer\\.ts$",
      "auth imports store and watch, and seals as secrets do",
    ),
    only(
      "audit-stands-on-store",
      "^src/audit/",
      "^src/(audit|store|protocol)/",
      "audit imports store",
    ),
    only(
      "dialects-use-services",
      "^src/dialects/",
      "^src/(dialects|auth|configs|secrets|store|watch|protocol)/",
      "dialects import services, and know nothing of http",
    ),
    only(
      "http-uses-services",
      "^src/http/",
      "^src/(http|dialects|auth|audit|configs|secrets|store|watch|protocol)/",
      "http imports services, and app.ts the dialects",
    ),
    only(
      "nats-stands-alone",
      "^src/nats/",
      "^src/nats/",
      "nats finds and runs a server, nothing else",
    ),
    only("sdk-stands-on-protocol", "^src/sdk/", "^src/(sdk|protocol)/", "sdk imports protocol"),
    only(
      "settings-know-nobody",
      "^src/settings\\.ts$",
      "^src/protocol/",
      "settings import protocol at most",
    ),
    only(
      "cli-uses-sdk",
      "^src/cli/",
      "^src/(cli|sdk|protocol|server\\.ts|settings\\.ts)",
      "only serve starts a server",
    ),
    {
      name: "only-serve-starts-a-server",
      comment: "and secrets and keys, which work without one",
      severity: "error",
      from: { path: "^src/cli/", pathNot: "^src/cli/commands/(serve|secrets|keys)\\.ts$" },
      to: { path: "^src/server\\.ts$" },
    },
    {
      name: "only-store-speaks-nats",
      comment: "store is the only folder that imports the NATS client",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/store/" },
      to: { path: "^(node_modules/)?(nats|@nats-io)(/|$)" },
    },
    {
      name: "browser-code-has-no-node",
      comment: "protocol and sdk/core run in browsers",
      severity: "error",
      from: { path: "^src/(protocol|sdk/core)/|^src/sdk/browser\\.ts$" },
      to: { dependencyTypes: ["core"] },
    },
    {
      name: "sdk-core-has-no-packages",
      comment: "the browser build has no dependencies",
      severity: "error",
      from: { path: "^src/sdk/(core/|browser\\.ts$)" },
      to: { path: "node_modules", dependencyTypesNot: ["type-only"] },
    },
    {
      name: "react-is-for-its-entry",
      comment: "jetbucket/react alone needs React, an optional peer",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/sdk/react" },
      to: { path: "node_modules/(@types/)?react" },
    },
    {
      name: "react-entry-has-no-client",
      comment:
        "the client comes from the browser's or Node's entry: a second copy of it would be loaded",
      severity: "error",
      from: { path: "^src/sdk/react" },
      to: { path: "^src/", pathNot: "^src/sdk/react", dependencyTypesNot: ["type-only"] },
    },
    {
      name: "keyv-and-unstorage-are-types",
      comment:
        "whoever uses jetbucket/keyv or jetbucket/unstorage has them; jetbucket needs neither",
      severity: "error",
      from: { path: "^src/" },
      to: { path: "node_modules/(keyv|unstorage)/", dependencyTypesNot: ["type-only"] },
    },
    {
      name: "protocol-imports-zod-at-most",
      severity: "error",
      from: { path: "^src/protocol/" },
      to: { path: "node_modules", pathNot: "node_modules/zod/" },
    },
    {
      name: "no-cycles",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    {
      name: "no-unresolved",
      severity: "error",
      from: {},
      to: { couldNotResolve: true, pathNot: "^jetbucket/" },
    },
    {
      name: "not-to-dev-dependency",
      severity: "error",
      from: { path: "^src/" },
      // React is a peer, and a development dependency for the tests.
      to: {
        path: "node_modules",
        pathNot: "node_modules/react/",
        dependencyTypes: ["npm-dev"],
        dependencyTypesNot: ["type-only"],
      },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules|^dist/" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default", "types"],
      extensions: [".ts", ".js", ".d.ts"],
    },
  },
};
