// The unmodified better-auth client on four devices, three of them Ada's, one of somebody else: node devices.mjs URL
// Prints one JSON document: for each step what the client said, in a form that two servers can be compared by, and how
// all devices stand after it; `pages` is what a page of the site answered each of them then.  Ids, tokens and dates are
// named by what they are.  Each device keeps its own cookies, and has an address of its own, as a proxy tells it.
import { createAuthClient } from "better-auth/client";

const [baseURL] = process.argv.slice(2);
const EMAIL = "ada@example.test";
const PASSWORD = "a long enough password";
const OTHER = "another long enough one";
const TOKEN = "better-auth.session_token";
const steps = [];
const pages = [];

class Device {
  constructor(name, address) {
    this.name = name;
    this.address = address;
    this.jar = new Map();
    this.client = createAuthClient({ baseURL, fetchOptions: { customFetchImpl: (...call) => this.fetch(...call) } });
  }

  // What a browser would send, and nothing kept of the answer.
  look(url, init = {}) {
    const headers = new Headers(init.headers);
    headers.set("user-agent", `${this.name}/1.0`);
    headers.set("x-forwarded-for", this.address);
    if (this.jar.size) headers.set("cookie", [...this.jar].map(([name, { value }]) => `${name}=${value}`).join("; "));
    if (init.method && init.method !== "GET") headers.set("origin", baseURL);
    return fetch(url, { ...init, headers });
  }

  async fetch(url, init) {
    const response = await this.look(url, init);
    for (const line of response.headers.getSetCookie()) {
      const [pair, ...attributes] = line.split(";").map((part) => part.trim());
      const at = pair.indexOf("=");
      const gone = attributes.some((attribute) => attribute.toLowerCase() === "max-age=0");
      if (gone) this.jar.delete(pair.slice(0, at));
      else this.jar.set(pair.slice(0, at), { value: pair.slice(at + 1), attributes: attributes.join("; ") });
    }
    return response;
  }

  get token() {
    return this.jar.has(TOKEN) ? decodeURIComponent(this.jar.get(TOKEN).value).split(".")[0] : null;
  }

  // The session's cookies with their attributes; copies of the session are left out, as are cookies of other purposes.
  get cookies() {
    const kept = [...this.jar].filter(([name]) => name.startsWith("better-auth.") && !name.includes("session_data"));
    return Object.fromEntries(kept.map(([name, { attributes }]) => [name, attributes]).sort());
  }

  async get(path) {
    const response = await this.look(`${baseURL}/api/auth${path}`);
    return response.ok ? response.json() : null;
  }
}

const phone = new Device("phone", "203.0.113.1");
const laptop = new Device("laptop", "203.0.113.2");
const tablet = new Device("tablet", "203.0.113.3");
const stranger = new Device("stranger", "203.0.113.4");
const devices = [phone, laptop, tablet, stranger];

function normal(value) {
  if (value instanceof Date) return "<date>";
  if (Array.isArray(value)) return value.map(normal).sort((one, two) => (JSON.stringify(one) < JSON.stringify(two) ? -1 : 1));
  if (typeof value === "string") return /^[A-Za-z0-9]{32}$/.test(value) ? "<id>" : value;
  if (value === null || typeof value !== "object") return value ?? null;
  const fields = Object.fromEntries(Object.entries(value).sort().map(([name, field]) => [name, normal(field)]));
  if (value.expiresAt instanceof Date) fields.hours = Math.round((value.expiresAt - value.createdAt) / 3_600_000);
  if (typeof value.token === "string") fields.token = devices.find(({ token }) => token === value.token)?.name ?? "nobody";
  return fields;
}

// As whom each device is signed in, and whose sessions there are as those see it who are.
async function stand() {
  const signedIn = {};
  const listed = {};
  for (const device of devices) {
    const said = await device.get("/get-session");
    signedIn[device.name] = said === null ? null : said.user.name;
    if (said !== null) listed[said.user.email] = (await device.get("/list-sessions")).length;
  }
  return { signedIn, listed };
}

async function step(label, device, call) {
  const { data, error } = await call(device.client);
  const refusal = error && { status: error.status, code: error.code ?? null, message: error.message ?? null };
  steps.push({ label, data: normal(data), error: refusal, cookies: device.cookies, ...(await stand()) });
  const shown = {};
  for (const one of devices) shown[one.name] = (await one.look(`${baseURL}/dashboard`, { redirect: "manual" })).status;
  pages.push(shown);
}

const signIn = (device, password = PASSWORD, rememberMe = undefined) =>
  step(`${device.name} signs in`, device, ({ signIn }) => signIn.email({ email: EMAIL, password, ...(rememberMe !== undefined && { rememberMe }) }));

await step("nobody asks who it is", phone, (client) => client.getSession());
await step("nobody asks for a list", phone, (client) => client.listSessions());
await step("nobody revokes", phone, (client) => client.revokeOtherSessions());
await step("a short password", phone, ({ signUp }) => signUp.email({ name: "Ada", email: EMAIL, password: "short" }));
await step("no address", phone, ({ signUp }) => signUp.email({ name: "Ada", email: "ada", password: PASSWORD }));
await step("phone signs up", phone, ({ signUp }) => signUp.email({ name: "Ada Łoś", email: "Ada@Example.test", password: PASSWORD }));
await step("the same address again", laptop, ({ signUp }) => signUp.email({ name: "Eve", email: EMAIL, password: PASSWORD }));
await step("stranger signs up", stranger, ({ signUp }) => signUp.email({ name: "Eve", email: "eve@example.test", password: PASSWORD }));
await signIn(laptop, "a wrong password");
await step("an unknown address", laptop, ({ signIn }) => signIn.email({ email: "no@example.test", password: PASSWORD }));
await signIn(laptop, PASSWORD, true);
await signIn(tablet, PASSWORD, false);
for (const device of devices) await step(`${device.name} asks who it is`, device, (client) => client.getSession());
await step("phone asks for a list", phone, (client) => client.listSessions());

const { session: other } = await laptop.get("/get-session");
const { session: foreign } = await stranger.get("/get-session");
await step("by id", phone, (client) => client.revokeSession({ token: other.id }));
await step("by token", phone, (client) => client.revokeSession({ token: other.token }));
await step("by token again", phone, (client) => client.revokeSession({ token: other.token }));
await step("somebody else's by token", phone, (client) => client.revokeSession({ token: foreign.token }));
await step("somebody else's by id", phone, (client) => client.revokeSession({ token: foreign.id }));
await step("what there never was", phone, (client) => client.revokeSession({ token: "nothing" }));
await step("revoked, it asks for a list", laptop, (client) => client.listSessions());
await signIn(laptop);
await step("its own", laptop, (client) => client.revokeSession({ token: laptop.token }));

await signIn(laptop);
await step("another name", laptop, (client) => client.updateUser({ name: "Ada Byron" }));
await step("another picture", tablet, (client) => client.updateUser({ image: "https://example.test/ada.png" }));
await step("another address", laptop, (client) => client.updateUser({ email: "ada@elsewhere.test" }));
await step("no change", laptop, (client) => client.updateUser({}));
await step("phone sees it", phone, (client) => client.getSession());

await step("all others of who is not remembered", tablet, (client) => client.revokeOtherSessions());
await step("revoked, it asks who it is", phone, (client) => client.getSession());
await step("tablet signs out", tablet, (client) => client.signOut());
await step("signed out, it signs out", tablet, (client) => client.signOut());
await signIn(tablet, PASSWORD, false);
await signIn(tablet, PASSWORD, true);
await signIn(phone);
await signIn(laptop);

const change = (device, fields) => (client) => client.changePassword({ currentPassword: PASSWORD, newPassword: OTHER, ...fields });
await step("nobody's password", new Device("thief", "203.0.113.5"), change(phone, {}));
await step("a wrong one", phone, change(phone, { currentPassword: "a wrong password" }));
await step("to a short one", phone, change(phone, { newPassword: "short" }));
await step("another password", phone, change(phone, {}));
await step("and back, for here alone", phone, change(phone, { currentPassword: OTHER, newPassword: PASSWORD, revokeOtherSessions: true }));
await step("phone asks who it is", phone, (client) => client.getSession());
await signIn(laptop, OTHER);
await signIn(laptop, PASSWORD);
await signIn(tablet, PASSWORD, false);
await step("all of them", tablet, (client) => client.revokeSessions());
await signIn(laptop);
await step("laptop asks for a list", laptop, (client) => client.listSessions());
await step("laptop signs out", laptop, (client) => client.signOut());
await step("stranger asks who it is", stranger, (client) => client.getSession());
console.log(JSON.stringify({ steps, pages }));
