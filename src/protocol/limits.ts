/** Every fixed limit of the protocol, in one place. Sizes are bytes, durations milliseconds. */
export const limits = {
  /** Length of a bucket name, in characters. */
  bucketName: 64,
  /** Length of a key in UTF-8 bytes. */
  key: 512,
  /** Length of a watch or listing filter in UTF-8 bytes. */
  filter: 1024,
  /** Tokens of a filter with wildcards. */
  filterTokens: 64,
  /** Filters of one watch. */
  filtersPerWatch: 64,
  /** Watches of one multiplexed socket. */
  watchesPerSocket: 256,
  /** Filters of all watches of one multiplexed socket together. */
  filtersPerSocket: 1024,
  /** Length of all those filters together in UTF-8 bytes. */
  filterBytesPerSocket: 64 * 1024,
  /** Length of the id that a client gives to a watch of a multiplexed socket, in characters. */
  watchId: 64,
  /** Revisions that a bucket can keep per key. */
  history: 64,
  /** Page size of a listing. */
  page: 10_000,
  /** Largest `max_value_size`: JetStream keeps a message's size, headers included, in 31 bits. */
  maxValueSize: 2 ** 31 - 1 - 4096,
  /** Length of a value's media type, in characters. */
  contentType: 255,
  /** Page size of a listing with values or metadata, when none is asked for. */
  entriesPage: 1000,
  /** Length of a bucket's description, in characters. */
  description: 1024,
  /** Length of a key's description, in characters. */
  keyDescription: 256,
  /** Length of an environment's name, in characters. */
  environment: 64,
  /** Length of a secret in UTF-8 bytes. */
  secret: 64 * 1024,
  /** Body of a request that brings a secret: escaped in JSON it can be six times as long. */
  secretBody: 400 * 1024,
  /** Scopes of one API key or token. */
  scopes: 64,
  /** Length of an API key's name and of a token's subject, in characters. */
  credentialName: 128,
  /** Length of a token: it has to fit into a header, or as a ticket into an address. */
  token: 6 * 1024,
  /** Longest life of a token. */
  tokenLife: 24 * 60 * 60 * 1_000,
  /** Records of a page of the audit. */
  auditPage: 1000,
  /** Items of a batch, operations of a transaction. */
  items: 1000,
  /** Body of a batch or a transaction. */
  itemsBody: 32 * 1024 * 1024,
  /** Length of an address, path and query, in characters. */
  url: 12 * 1024,
  /** All headers of a request together, the address included. */
  requestHeaders: 16 * 1024,
  /** Time until a request's headers have come, and until all of it has. */
  headersTime: 10_000,
  requestTime: 120_000,
  /** Body of a request that is not a value. */
  jsonBody: 64 * 1024,
  /** A frame that a watch client may send. */
  clientFrame: 64 * 1024,
  /**
   * Room for the headers that are stored beside a value. JetStream counts them in a message's size, users
   * do not, so a bucket's stream allows that much more than `max_value_size`.
   */
  valueHeaders: 4096,
  /** Shortest and longest time to live. */
  ttlMin: 1_000,
  ttlMax: 365 * 24 * 60 * 60 * 1_000,
} as const;
