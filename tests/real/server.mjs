// The real better-auth with a small app beside it, for tests: node server.mjs '{"database": …, "secret": …}'
// /api/auth/* is better-auth's own; every other path answers with the request's headers as JSON, and with how often
// each of better-auth's paths was asked.
// `database` is a SQLite file or a postgresql:// URL; with `redis`, a URL, sessions are in that Redis alone.
import { createServer } from "node:http";
import Database from "better-sqlite3";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import { admin, organization, twoFactor } from "better-auth/plugins";

const given = JSON.parse(process.argv[2]);

async function openDatabase(where) {
  if (!where.startsWith("postgresql:")) return new Database(where);
  const { default: pg } = await import("pg");
  return new pg.Pool({ connectionString: where });
}

async function openRedis(url) {
  const { Redis } = await import("ioredis");
  const { redisStorage } = await import("@better-auth/redis-storage");
  return redisStorage({ client: new Redis(url) });
}

const options = {
  database: await openDatabase(given.database),
  ...(given.redis && { secondaryStorage: await openRedis(given.redis) }),
  secret: given.secret,
  emailAndPassword: { enabled: true },
  session: {
    expiresIn: 172800,
    updateAge: 86400,
    ...(given.freshAge !== undefined && { freshAge: given.freshAge }),
    cookieCache: { enabled: given.cookieCache !== undefined, strategy: given.cookieCache ?? "compact", maxAge: 300 },
  },
  plugins: given.plugins ? [admin(), organization(), twoFactor()] : [],
  telemetry: { enabled: false },
};
const auth = betterAuth(options);
const { runMigrations } = await getMigrations(options);
await runMigrations();

const handle = toNodeHandler(auth);
const asked = {};
const server = createServer((request, response) => {
  if (request.url.startsWith("/api/auth/")) {
    asked[request.url] = (asked[request.url] ?? 0) + 1;
    return handle(request, response);
  }
  request.resume();
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ method: request.method, url: request.url, headers: request.headers, asked }));
});
server.listen(0, "127.0.0.1", () => console.log(`READY ${server.address().port}`));
process.on("SIGTERM", () => process.exit(0));
