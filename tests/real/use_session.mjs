// The unmodified client's useSession in a window that this script pretends: several components, then focus, early and
// late.  Prints one JSON line: what each component saw, and how often the client asked.
const visibility = new EventTarget();
visibility.visibilityState = "visible";
globalThis.document = visibility;
globalThis.window = new EventTarget();
let skipped = 0;
const clock = Date.now.bind(Date);
Date.now = () => clock() + skipped;

const { createAuthClient } = await import("better-auth/client");
const [baseURL, cookie] = process.argv.slice(2);
let asked = 0;
let answered = 0;
let wake = () => {};

async function countingFetch(input, init = {}) {
  asked += 1;
  const headers = new Headers(init.headers);
  headers.set("cookie", cookie);
  const response = await fetch(input, { ...init, headers });
  answered += 1;
  wake();
  return response;
}

const client = createAuthClient({ baseURL, fetchOptions: { customFetchImpl: countingFetch } });
const settled = async (count) => {
  while (answered < count) await new Promise((resolve) => (wake = resolve));
  while (client.useSession.get().isRefetching || client.useSession.get().isPending) await new Promise((resolve) => setImmediate(resolve));
};

const seen = [{}, {}, {}];
seen.forEach((component) => client.useSession.subscribe((state) => (component.email = state.data?.user.email ?? null)));
await settled(1);
const mounted = asked;
visibility.dispatchEvent(new Event("visibilitychange"));
await settled(2);
const focused = asked;
visibility.dispatchEvent(new Event("visibilitychange"));
await new Promise((resolve) => setImmediate(resolve));
const early = asked;
skipped = 6000;
visibility.dispatchEvent(new Event("visibilitychange"));
await settled(3);
console.log(JSON.stringify({ emails: seen.map(({ email }) => email), mounted, focused, early, late: asked }));
process.exit(0);
