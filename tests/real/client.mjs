// The unmodified better-auth client against a base URL: signs up, asks who it is, changes its name, signs out, asks again.
// Prints one JSON line.  Cookies are kept as a browser would keep them, by a fetch around the client's own.
import { createAuthClient } from "better-auth/client";

const [baseURL, email] = process.argv.slice(2);
const jar = new Map();

async function fetchWithCookies(input, init = {}) {
  const headers = new Headers(init.headers);
  if (jar.size) headers.set("cookie", [...jar].map(([name, value]) => `${name}=${value}`).join("; "));
  if (init.method && init.method !== "GET") headers.set("origin", baseURL);
  const response = await fetch(input, { ...init, headers });
  for (const line of response.headers.getSetCookie()) {
    const [pair, ...attributes] = line.split(";");
    const at = pair.indexOf("=");
    const gone = attributes.some((attribute) => attribute.trim().toLowerCase() === "max-age=0");
    gone ? jar.delete(pair.slice(0, at)) : jar.set(pair.slice(0, at), pair.slice(at + 1));
  }
  return response;
}

const client = createAuthClient({ baseURL, fetchOptions: { customFetchImpl: fetchWithCookies } });
const page = async () => (await fetchWithCookies(`${baseURL}/dashboard`, { headers: { accept: "text/html" }, redirect: "manual" })).status;

const before = await page();
const signedUp = await client.signUp.email({ name: "Node Client", email, password: "a long enough password" });
const session = await client.getSession();
const during = await page();
const renamed = await client.updateUser({ name: "Renamed Client" });
const sessionThen = await client.getSession();
const signedOut = await client.signOut();
const gone = await client.getSession();
console.log(JSON.stringify({
  before,
  signUpError: signedUp.error,
  email: session.data?.user.email ?? null,
  during,
  renameError: renamed.error,
  names: [session.data?.user.name, sessionThen.data?.user.name],
  isDate: session.data?.session.expiresAt instanceof Date,
  signOut: signedOut.data?.success ?? false,
  after: gone.data,
  cookies: [...jar.keys()],
}));
