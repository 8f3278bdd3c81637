// Node.js, without any package.  Run: node node_app.mjs
import { createPublicKey, verify } from "node:crypto";
import { createServer } from "node:http";

const issuer = process.env.GATEKEEPER_ISSUER;
const jwksUrl = process.env.GATEKEEPER_JWKS ?? `${issuer}/.well-known/gatekeeper/jwks.json`;
let keys = [], fetchedAt = -Infinity, fetching;

async function key(kid) {
  const find = () => keys.find((k) => k.kid === kid && k.kty === "EC" && k.crv === "P-256");
  const age = performance.now() - fetchedAt; // an unknown key is sought once a minute, known ones are renewed
  if (age > 300_000 || (age > 60_000 && !find())) {
    fetchedAt = performance.now();
    fetching = fetchKeys().then((found) => (keys = found), () => {});
  }
  if (!find()) await fetching; // a known key waits for nothing
  return find();
}

async function fetchKeys() {
  const answer = await fetch(jwksUrl, { redirect: "error", signal: AbortSignal.timeout(5_000) });
  if (!answer.ok) throw new Error(answer.status);
  return (await answer.json()).keys;
}

async function claimsOf(assertion) {
  if (assertion.length > 16384 || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(assertion)) return null;
  try {
    const [head, body, signature] = assertion.split(".");
    const json = (part) => JSON.parse(Buffer.from(part, "base64url"));
    const { alg, typ, kid, ...others } = json(head); // jwk, jku, crit: the gate never sets them
    if (alg !== "ES256" || typ !== "gk+jwt" || Object.keys(others).length > 0) return null;
    const jwk = await key(kid);
    if (!jwk) return null;
    const publicKey = { key: createPublicKey({ key: jwk, format: "jwk" }), dsaEncoding: "ieee-p1363" };
    const signed = Buffer.from(`${head}.${body}`);
    if (!verify("sha256", signed, publicKey, Buffer.from(signature, "base64url"))) return null;
    const claims = json(body), { iss, aud, sub, exp, nbf, roles, user, session } = claims, now = Date.now() / 1000;
    if (iss !== issuer || aud !== issuer || !Number.isFinite(exp) || exp + 30 <= now || !(nbf - 30 <= now)) return null;
    const isText = (value) => typeof value === "string" && value !== "";
    if (!isText(sub) || !Array.isArray(roles) || !roles.every(isText)) return null;
    // User and session are left out where they are long.
    return (user && user.id !== sub) || (session && session.userId !== sub) ? null : claims;
  } catch {
    return null;
  }
}

// Leads to sign in who asks for a page.  Whose assertion is refused would only come back.
function refuse(request, response) {
  const { "x-auth-assertion": assertion, "sec-fetch-mode": mode, accept = "" } = request.headers;
  const signInUrl = `/sign-in?callbackUrl=${encodeURIComponent(request.url)}`;
  const isPage = mode ? mode === "navigate" : accept.includes("text/html");
  response.setHeader("Cache-Control", "no-store");
  if (isPage && assertion === undefined) return response.writeHead(307, { Location: signInUrl }).end();
  response.writeHead(401, { "Content-Type": "application/json" });
  response.end(JSON.stringify({ error: "Unauthorized", signInUrl }));
}

const server = createServer(async (request, response) => {
  const claims = await claimsOf(request.headers["x-auth-assertion"] ?? ""), path = request.url.split("?")[0];
  if (path !== "/" && !claims) return refuse(request, response);
  const [type, text] = path === "/api/me"
    ? ["application/json", JSON.stringify({ user: claims.user, session: claims.session })]
    : ["text/plain", `Hello ${claims?.sub ?? "nobody"}`];
  response.writeHead(200, { "Content-Type": type }).end(text);
});
server.listen(process.env.PORT ?? 8000, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
