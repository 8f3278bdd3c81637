// Node.js, without any package.  Run: node node_app.mjs
import { createPublicKey, verify } from "node:crypto";
import { createServer } from "node:http";

const issuer = process.env.GATEKEEPER_ISSUER;
const jwksUrl = process.env.GATEKEEPER_JWKS ?? `${issuer}/.well-known/gatekeeper/jwks.json`;
let keys = [], fetchedAt = -Infinity;

async function key(kid) {
  const age = performance.now() - fetchedAt; // an unknown key is sought once a minute, known ones are renewed
  if (age > 300_000 || (age > 60_000 && !keys.some((k) => k.kid === kid))) {
    fetchedAt = performance.now();
    keys = await fetch(jwksUrl).then(async (r) => (r.ok ? (await r.json()).keys : keys), () => keys);
  }
  return keys.find((k) => k.kid === kid && k.kty === "EC" && k.crv === "P-256");
}

async function userOf(assertion = "") {
  if (assertion.length > 16384 || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(assertion)) return null;
  try {
    const [head, body, signature] = assertion.split(".");
    const json = (part) => JSON.parse(Buffer.from(part, "base64url"));
    const { alg, typ, kid } = json(head), jwk = await key(kid), now = Date.now() / 1000;
    if (alg !== "ES256" || typ !== "gk+jwt" || !jwk) return null;
    const publicKey = { key: createPublicKey({ key: jwk, format: "jwk" }), dsaEncoding: "ieee-p1363" };
    const signed = Buffer.from(`${head}.${body}`);
    if (!verify("sha256", signed, publicKey, Buffer.from(signature, "base64url"))) return null;
    const claims = json(body);
    const isOurs = claims.iss === issuer && claims.aud === issuer;
    return isOurs && claims.exp + 30 > now && claims.nbf - 30 <= now ? claims : null;
  } catch {
    return null;
  }
}

const server = createServer(async (request, response) => {
  const user = await userOf(request.headers["x-auth-assertion"]);
  response.writeHead(user ? 200 : 401, { "Content-Type": "text/plain" }).end(user ? `Hello ${user.sub}` : "Unauthorized");
});
server.listen(process.env.PORT ?? 8000, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
