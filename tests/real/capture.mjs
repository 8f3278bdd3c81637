// Asks the real better-auth what its account calls answer, and prints the transcripts as JSON:
//   node capture.mjs > ../vectors/auth-api-more.json
// Three servers, one after the other: `mail` sends mail (what it would send is in the transcript of the call that
// made it), `quiet` has no mail and no sign-up, `mailjwt` is `mail` with another form of the cookie cache.
// A transcript's `sessions` are all that the database has afterwards; `atMs` is when the call was begun.
import { createServer } from "node:http";
import Database from "better-sqlite3";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import { SignJWT } from "jose";

const SECRET = "vector-secret-B-0123456789abcdefghijklmnop";
const PORTS = { mail: 3971, quiet: 3972, mailjwt: 3973 };
const PASSWORD = "correct horse battery";
const JSON_TYPE = { "Content-Type": "application/json" };

let mails = [];
let database;
let OWN;

async function open(name, more) {
  database = new Database(":memory:");
  OWN = `http://127.0.0.1:${PORTS[name]}`;
  const mailTo = (kind) => async ({ user, url, token }) => void mails.push({ kind, to: user.email, url, token });
  const options = {
    database,
    secret: SECRET,
    baseURL: OWN,
    logger: { disabled: true },
    telemetry: { enabled: false },
    session: {
      expiresIn: 172800,
      updateAge: 86400,
      cookieCache: { enabled: true, maxAge: 300, strategy: name === "mailjwt" ? "jwt" : "compact" },
    },
    emailAndPassword: { enabled: true, disableSignUp: name === "quiet" },
    ...more,
  };
  if (name !== "quiet") {
    options.emailAndPassword.sendResetPassword = mailTo("reset");
    options.emailVerification = { sendVerificationEmail: mailTo("verify") };
  }
  const { runMigrations } = await getMigrations(options);
  await runMigrations();
  const server = createServer(toNodeHandler(betterAuth(options)));
  await new Promise((resolve) => server.listen(PORTS[name], "127.0.0.1", resolve));
  return server;
}

function recorder(server) {
  const transcripts = [];
  const call = async (name, method, path, { body, cookie, headers = {}, note } = {}) => {
    mails = [];
    const sent = { "User-Agent": "node", ...headers };
    if (!("Origin" in sent) && method !== "GET") sent.Origin = OWN;
    if (sent.Origin === null) delete sent.Origin;
    if (cookie) sent.Cookie = cookie;
    const text = body === undefined ? null : typeof body === "string" ? body : JSON.stringify(body);
    if (text !== null && !sent["Content-Type"]) Object.assign(sent, JSON_TYPE);
    const before = Date.now();
    const answer = await fetch(`${OWN}/api/auth${path}`, { method, headers: sent, body: text, redirect: "manual" });
    const bodyText = await answer.text();
    const skipped = ["date", "connection", "keep-alive", "transfer-encoding", "content-length"];
    const kept = [...answer.headers].filter(([key]) => !skipped.includes(key));
    transcripts.push({
      name,
      server,
      ...(note && { note }),
      atMs: before,
      request: { method, path: `/api/auth${path}`, headers: sent, body: text },
      response: { status: answer.status, headers: kept, bodyText: kept.some(([, v]) => v === "text/html") ? "" : bodyText },
      mails,
      sessions: database.prepare('select id, token, userId, createdAt from session order by rowid').all(),
    });
    return { answer, bodyText, json: () => JSON.parse(bodyText), cookies: cookiesOf(answer), mails };
  };
  return { transcripts, call };
}

function cookiesOf(answer) {
  const pairs = answer.headers.getSetCookie().map((line) => line.split(";")[0]);
  return pairs.filter((pair) => !pair.endsWith("=")).join("; ");
}

const tokenOnly = (cookie) => cookie.split("; ").filter((pair) => pair.includes("session_token")).join("; ");

const jwt = (claims, { secret = SECRET, exp = "1h", alg = "HS256" } = {}) => {
  const made = new SignJWT(claims).setProtectedHeader({ alg }).setIssuedAt();
  return (exp === null ? made : made.setExpirationTime(exp)).sign(new TextEncoder().encode(secret));
};

async function withMail({ call }) {
  const up = await call("sign-up", "POST", "/sign-up/email", { body: { name: "Ada", email: "ada@example.test", password: PASSWORD } });
  const cookie = up.cookies;
  const bare = tokenOnly(cookie);
  await call("sign-up by form", "POST", "/sign-up/email", {
    body: "name=Bo&email=bo%40example.test&password=correct+horse+battery",
    headers: { "Content-Type": "application/x-www-form-urlencoded" },
  });
  await call("sign-up empty password", "POST", "/sign-up/email", { body: { name: "N", email: "n@example.test", password: "" } });
  await call("sign-up upper-case e-mail", "POST", "/sign-up/email", { body: { name: "Cy", email: "CY@Example.TEST", password: PASSWORD } });
  await call("sign-up image of a wrong type", "POST", "/sign-up/email", { body: { name: "N", email: "n@example.test", password: PASSWORD, image: 5 } });
  await call("sign-up rememberMe of a wrong type", "POST", "/sign-up/email", { body: { name: "N", email: "n@example.test", password: PASSWORD, rememberMe: "yes" } });
  await call("sign-up body a text", "POST", "/sign-up/email", { body: '"text"' });
  await call("sign-up body null", "POST", "/sign-up/email", { body: "null" });
  await call("sign-up body an array", "POST", "/sign-up/email", { body: "[]" });
  await call("sign-up emailVerified is not taken", "POST", "/sign-up/email", { body: { name: "N", email: "ev@example.test", password: PASSWORD, emailVerified: true } });
  await call("sign-up id is not taken", "POST", "/sign-up/email", { body: { name: "N", email: "ev2@example.test", password: PASSWORD, id: "mine", createdAt: "2001-01-01T00:00:00.000Z" } });
  await call("sign-up callbackURL untrusted", "POST", "/sign-up/email", { body: { name: "N", email: "n@example.test", password: PASSWORD, callbackURL: "https://evil.example/" } });
  await call("sign-up with several faults", "POST", "/sign-up/email", { body: { name: 1, email: "nope", password: "", rememberMe: 1 } });
  await call("sign-up long e-mail", "POST", "/sign-up/email", { body: { name: "N", email: `${"a".repeat(300)}@example.test`, password: PASSWORD } });
  await call("sign-in body a text", "POST", "/sign-in/email", { body: '"text"' });
  await call("sign-in body null", "POST", "/sign-in/email", { body: "null" });
  await call("sign-in body a number", "POST", "/sign-in/email", { body: "7" });
  await call("sign-in empty JSON body", "POST", "/sign-in/email", { body: "" });
  await call("sign-in callbackURL a number", "POST", "/sign-in/email", { body: { email: "ada@example.test", password: PASSWORD, callbackURL: 7 } });
  await call("sign-in callbackURL in the query", "POST", "/sign-in/email?callbackURL=https%3A%2F%2Fevil.example%2F", { body: { email: "ada@example.test", password: PASSWORD } });
  await call("sign-in errorCallbackURL untrusted", "POST", "/sign-in/email", { body: { email: "ada@example.test", password: PASSWORD, errorCallbackURL: "https://evil.example/" } });
  await call("sign-in newUserCallbackURL untrusted", "POST", "/sign-in/email", { body: { email: "ada@example.test", password: PASSWORD, newUserCallbackURL: "https://evil.example/" } });
  await call("sign-in redirectTo untrusted", "POST", "/sign-in/email", { body: { email: "ada@example.test", password: PASSWORD, redirectTo: "https://evil.example/" } });
  await call("sign-in broken UTF-8 in JSON", "POST", "/sign-in/email", { body: '{"email":"ada@example.test","password":"\\ud800"}' });
  await call("sign-in with __proto__", "POST", "/sign-in/email", { body: '{"__proto__":{"email":"ada@example.test"},"password":"x"}' });
  await call("sign-in with a repeated key", "POST", "/sign-in/email", { body: '{"email":"nobody@example.test","email":"ada@example.test","password":"correct horse battery"}' });
  await call("sign-in form with a repeated field", "POST", "/sign-in/email", {
    body: "email=nobody%40example.test&email=ada%40example.test&password=correct+horse+battery",
    headers: { "Content-Type": "application/x-www-form-urlencoded" },
  });
  const again = await call("sign-in of a device that was not remembered", "POST", "/sign-in/email", {
    body: { email: "ada@example.test", password: PASSWORD, rememberMe: false },
  });
  await call("sign-in remembered, over one that was not", "POST", "/sign-in/email", {
    body: { email: "ada@example.test", password: PASSWORD },
    cookie: again.cookies,
  });
  await call("get-session with a good session_data", "GET", "/get-session", { cookie });
  await call("get-session with a session_data of another token", "GET", "/get-session", {
    cookie: `${tokenOnly(again.cookies)}; ${cookie.split("; ").find((pair) => pair.includes("session_data"))}`,
  });
  await call("get-session disableCookieCache with a good session_data", "GET", "/get-session?disableCookieCache=1", { cookie });
  await call("get-session both queries", "GET", "/get-session?disableCookieCache=1&disableRefresh=1", { cookie });
  await call("list-sessions with a good session_data", "GET", "/list-sessions", { cookie });
  await call("list-sessions without session_data", "GET", "/list-sessions", { cookie: bare });
  await call("sign-out with session_data in chunks", "POST", "/sign-out", {
    body: {}, cookie: `${tokenOnly(again.cookies)}; better-auth.session_data.0=a; better-auth.session_data.1=b`,
  });
  await call("sign-out body null", "POST", "/sign-out", { body: "null" });
  await call("sign-out body a text", "POST", "/sign-out", { body: '"x"' });
  await call("revoke-session token a number", "POST", "/revoke-session", { body: { token: 7 }, cookie });
  await call("revoke-session token empty", "POST", "/revoke-session", { body: { token: "" }, cookie });
  await call("revoke-session by form", "POST", "/revoke-session", {
    body: "token=x", headers: { "Content-Type": "application/x-www-form-urlencoded" }, cookie,
  });
  await call("revoke-other-sessions broken JSON", "POST", "/revoke-other-sessions", { body: "{", cookie });
  await call("revoke-other-sessions body an array", "POST", "/revoke-other-sessions", { body: "[]", cookie });
  await call("revoke-sessions wrong type of content", "POST", "/revoke-sessions", { body: "x", headers: { "Content-Type": "text/plain" }, cookie });

  // update-user
  await call("update-user no cookie", "POST", "/update-user", { body: { name: "X" } });
  await call("update-user no body", "POST", "/update-user", { cookie });
  await call("update-user nothing", "POST", "/update-user", { body: {}, cookie });
  await call("update-user array", "POST", "/update-user", { body: [], cookie });
  await call("update-user null", "POST", "/update-user", { body: "null", cookie });
  await call("update-user unknown field", "POST", "/update-user", { body: { role: "admin" }, cookie });
  await call("update-user e-mail", "POST", "/update-user", { body: { email: "new@example.test" }, cookie });
  await call("update-user empty e-mail and name", "POST", "/update-user", { body: { email: "", name: "Ada E" }, cookie });
  await call("update-user emailVerified", "POST", "/update-user", { body: { emailVerified: true }, cookie });
  await call("update-user emailVerified false and name", "POST", "/update-user", { body: { emailVerified: false, name: "Ada F" }, cookie });
  const updated = await call("update-user name and image", "POST", "/update-user", { body: { name: "Ada L", image: "https://img.example/a.png" }, cookie });
  await call("get-session with the session_data of before", "GET", "/get-session", { cookie });
  await call("get-session with the session_data of after", "GET", "/get-session", { cookie: updated.cookies });
  await call("update-user image null", "POST", "/update-user", { body: { image: null }, cookie: bare });
  await call("get-session after image null", "GET", "/get-session", { cookie: bare });
  await call("update-user name a number", "POST", "/update-user", { body: { name: 7 }, cookie: bare });
  await call("get-session after name a number", "GET", "/get-session", { cookie: bare });
  await call("update-user name null", "POST", "/update-user", { body: { name: null }, cookie: bare });
  await call("update-user name an object", "POST", "/update-user", { body: { name: { a: 1 } }, cookie: bare });
  await call("update-user name empty", "POST", "/update-user", { body: { name: "" }, cookie: bare });
  await call("update-user bad origin", "POST", "/update-user", { body: { name: "X" }, cookie, headers: { Origin: "https://evil.example" } });
  await call("update-user callbackURL untrusted", "POST", "/update-user", { body: { name: "X", callbackURL: "https://evil.example" }, cookie });
  const forgot = await call("sign-in not remembered", "POST", "/sign-in/email", { body: { email: "ada@example.test", password: PASSWORD, rememberMe: false } });
  await call("update-user of a session not remembered", "POST", "/update-user", { body: { name: "Ada" }, cookie: forgot.cookies });

  // change-password
  const changed = { newPassword: "another horse battery", currentPassword: PASSWORD };
  await call("change-password no cookie", "POST", "/change-password", { body: changed });
  await call("change-password missing fields", "POST", "/change-password", { body: {}, cookie });
  await call("change-password wrong types", "POST", "/change-password", { body: { newPassword: 1, currentPassword: null, revokeOtherSessions: "yes" }, cookie });
  await call("change-password too short", "POST", "/change-password", { body: { ...changed, newPassword: "1234567" }, cookie });
  await call("change-password too long", "POST", "/change-password", { body: { ...changed, newPassword: "x".repeat(129) }, cookie });
  await call("change-password current too long", "POST", "/change-password", { body: { ...changed, currentPassword: "x".repeat(129) }, cookie });
  await call("change-password wrong current", "POST", "/change-password", { body: { ...changed, currentPassword: "wrong-password" }, cookie });
  await call("change-password", "POST", "/change-password", { body: changed, cookie });
  await call("sign-in by the old password", "POST", "/sign-in/email", { body: { email: "ada@example.test", password: PASSWORD } });
  await call("sign-in by the new password", "POST", "/sign-in/email", { body: { email: "ada@example.test", password: changed.newPassword } });
  const renewed = await call("change-password and revoke the others", "POST", "/change-password", {
    body: { newPassword: PASSWORD, currentPassword: changed.newPassword, revokeOtherSessions: true }, cookie,
    headers: { "User-Agent": "vector-agent/1.0", "X-Forwarded-For": "203.0.113.7" },
  });
  await call("get-session of the session before", "GET", "/get-session?disableCookieCache=1", { cookie });
  await call("get-session of the session after", "GET", "/get-session", { cookie: renewed.cookies });
  const mine = renewed.cookies;
  const unremembered = await call("sign-in not remembered again", "POST", "/sign-in/email", { body: { email: "ada@example.test", password: PASSWORD, rememberMe: false } });
  await call("change-password and revoke, not remembered", "POST", "/change-password", {
    body: { newPassword: PASSWORD, currentPassword: PASSWORD, revokeOtherSessions: true }, cookie: unremembered.cookies,
  });
  const last = await call("sign-in for what follows", "POST", "/sign-in/email", { body: { email: "ada@example.test", password: PASSWORD } });

  // passwords that were forgotten
  const ask = "/request-password-reset";
  await call("request-password-reset no body", "POST", ask);
  await call("request-password-reset bad e-mail", "POST", ask, { body: { email: "nope" } });
  await call("request-password-reset missing e-mail", "POST", ask, { body: {} });
  await call("request-password-reset unknown", "POST", ask, { body: { email: "nobody@example.test" } });
  await call("request-password-reset untrusted redirectTo", "POST", ask, { body: { email: "ada@example.test", redirectTo: "https://evil.example/" } });
  await call("request-password-reset untrusted redirectTo, bad e-mail", "POST", ask, { body: { email: "nope", redirectTo: "https://evil.example/" } });
  await call("request-password-reset redirectTo a number", "POST", ask, { body: { email: "ada@example.test", redirectTo: 7 } });
  await call("request-password-reset bad origin, no cookie", "POST", ask, { body: { email: "nobody@example.test" }, headers: { Origin: "https://evil.example" } });
  await call("request-password-reset bad origin, cookie", "POST", ask, { body: { email: "nobody@example.test" }, headers: { Origin: "https://evil.example" }, cookie: "a=b" });
  const first = (await call("request-password-reset", "POST", ask, { body: { email: "ADA@example.test", redirectTo: "/new?a=b" } })).mails[0];
  const second = (await call("request-password-reset without redirectTo", "POST", ask, { body: { email: "ada@example.test" } })).mails[0];
  const link = (token, callback) => `/reset-password/${token}${callback === undefined ? "" : `?callbackURL=${encodeURIComponent(callback)}`}`;
  await call("reset-password/:token", "GET", link(first.token, "/new?a=b"));
  await call("reset-password/:token again", "GET", link(first.token, "/new"));
  await call("reset-password/:token absolute", "GET", link(first.token, `${OWN}/new#part`));
  await call("reset-password/:token untrusted", "GET", link(first.token, "https://evil.example/"));
  await call("reset-password/:token no callbackURL", "GET", link(first.token));
  await call("reset-password/:token empty callbackURL", "GET", link(first.token, ""));
  await call("reset-password/:token twice callbackURL", "GET", `${link(first.token, "/new")}&callbackURL=%2Fother`);
  await call("reset-password/:token unknown", "GET", link("x".repeat(24), "/new?error=a"));
  await call("reset-password/:token unknown, untrusted", "GET", link("x".repeat(24), "https://evil.example/"));
  await call("reset-password/ without a token", "GET", "/reset-password/?callbackURL=%2Fnew");
  await call("reset-password/:token with a slash", "GET", "/reset-password/a/b?callbackURL=%2Fnew");
  await call("reset-password/:token by POST", "POST", link(first.token, "/new"), { body: {} });
  const reset = "/reset-password";
  await call("reset-password by GET", "GET", reset);
  await call("reset-password no body", "POST", reset);
  await call("reset-password missing password", "POST", reset, { body: { token: first.token } });
  await call("reset-password missing token", "POST", reset, { body: { newPassword: "reset horse battery" } });
  await call("reset-password token a number", "POST", reset, { body: { newPassword: "reset horse battery", token: 7 } });
  await call("reset-password unknown token", "POST", reset, { body: { newPassword: "reset horse battery", token: "x".repeat(24) } });
  await call("reset-password too short", "POST", reset, { body: { newPassword: "1234567", token: first.token } });
  await call("reset-password too long", "POST", reset, { body: { newPassword: "x".repeat(129), token: first.token } });
  await call("reset-password too short and unknown token", "POST", reset, { body: { newPassword: "1234567", token: "x".repeat(24) } });
  await call("reset-password bad origin, cookie", "POST", reset, { body: { newPassword: "reset horse battery", token: first.token }, cookie: "a=b", headers: { Origin: "https://evil.example" } });
  await call("reset-password", "POST", reset, { body: { newPassword: "reset horse battery", token: first.token }, headers: { Origin: null } });
  await call("get-session after reset-password", "GET", "/get-session?disableCookieCache=1", { cookie: last.cookies });
  await call("reset-password a second time", "POST", reset, { body: { newPassword: "reset horse battery", token: first.token } });
  await call("reset-password/:token after its use", "GET", link(first.token, "/new"));
  await call("sign-in after reset-password, old", "POST", "/sign-in/email", { body: { email: "ada@example.test", password: PASSWORD } });
  await call("sign-in after reset-password, new", "POST", "/sign-in/email", { body: { email: "ada@example.test", password: "reset horse battery" } });
  await call("reset-password token in the query", "POST", `${reset}?token=${second.token}`, { body: { newPassword: PASSWORD } });
  const third = (await call("request-password-reset a third", "POST", ask, { body: { email: "ada@example.test" } })).mails[0];
  database.prepare("update verification set expiresAt = ?").run("2020-01-01T00:00:00.000Z");
  await call("reset-password expired", "POST", reset, { body: { newPassword: PASSWORD, token: third.token }, note: "every verification row was made to have expired" });

  // addresses that are verified
  const send = "/send-verification-email";
  const user = up.json().user;
  await call("send-verification-email no body", "POST", send);
  await call("send-verification-email bad e-mail", "POST", send, { body: { email: "nope" } });
  await call("send-verification-email unknown", "POST", send, { body: { email: "nobody@example.test" } });
  await call("send-verification-email untrusted callbackURL", "POST", send, { body: { email: "ada@example.test", callbackURL: "https://evil.example/" } });
  const anonymous = await call("send-verification-email", "POST", send, { body: { email: "ADA@example.test", callbackURL: "/welcome?a=b" } });
  const own = (await call("send-verification-email of the own session", "POST", send, { body: { email: "Ada@example.test" }, cookie: tokenOnly(last.cookies) })).mails[0];
  await call("send-verification-email of another, by a session", "POST", send, { body: { email: "bo@example.test" }, cookie: last.cookies });
  const verify = (token, callback) => `/verify-email?token=${token}${callback === undefined ? "" : `&callbackURL=${encodeURIComponent(callback)}`}`;
  await call("verify-email no token", "GET", "/verify-email");
  await call("verify-email twice token", "GET", "/verify-email?token=a&token=b");
  await call("verify-email empty token", "GET", "/verify-email?token=");
  await call("verify-email garbage", "GET", verify("garbage"));
  await call("verify-email garbage, callbackURL", "GET", verify("garbage", "/welcome?a=b#c"));
  await call("verify-email garbage, untrusted callbackURL", "GET", verify("garbage", "https://evil.example/"));
  await call("verify-email other secret", "GET", verify(await jwt({ email: user.email }, { secret: "x".repeat(40) })));
  await call("verify-email HS512", "GET", verify(await jwt({ email: user.email }, { alg: "HS512" })));
  await call("verify-email expired", "GET", verify(await jwt({ email: user.email }, { exp: 1000 })));
  await call("verify-email expired, callbackURL", "GET", verify(await jwt({ email: user.email }, { exp: 1000 }), "/welcome"));
  await call("verify-email expired, absolute callbackURL", "GET", verify(await jwt({ email: user.email }, { exp: 1000 }), `${OWN}/welcome?a=b`));
  await call("verify-email unknown user", "GET", verify(await jwt({ email: "nobody@example.test" })));
  await call("verify-email id of another user", "GET", verify(await jwt({ email: user.email, userId: "other" })));
  await call("verify-email no e-mail in the token", "GET", verify(await jwt({ userId: user.id })));
  await call("verify-email bad e-mail in the token", "GET", verify(await jwt({ email: "nope" })));
  await call("verify-email by POST", "POST", verify(own.token), { body: {} });
  const link2 = new URL(anonymous.mails[0].url);
  await call("verify-email", "GET", `/verify-email${link2.search}`);
  await call("verify-email a second time", "GET", verify(own.token));
  await call("verify-email a second time, callbackURL", "GET", verify(own.token, "/welcome"));
  await call("verify-email without exp", "GET", verify(await jwt({ email: user.email }, { exp: null })));
  await call("get-session after verify-email", "GET", "/get-session", { cookie: tokenOnly(last.cookies) });
  await call("send-verification-email of the own session, verified", "POST", send, { body: { email: user.email }, cookie: tokenOnly(last.cookies) });
  await call("send-verification-email, verified", "POST", send, { body: { email: user.email } });
  await call("verify-email of bo, callbackURL", "GET", verify(await jwt({ email: "bo@example.test" }), "/welcome"));
  await call("error with markup", "GET", "/error?error=%3Cscript%3E");
  await call("change-email", "POST", "/change-email", { body: { newEmail: "new@example.test" }, cookie: mine });
  await call("delete-user", "POST", "/delete-user", { body: {}, cookie: mine });
  await call("sign-in/social", "POST", "/sign-in/social", { body: { provider: "github" } });
  await call("list-accounts", "GET", "/list-accounts", { cookie: tokenOnly(last.cookies) });
  await call("account-info", "GET", "/account-info");
}

async function quiet({ call }) {
  await call("sign-up while it is off", "POST", "/sign-up/email", { body: { name: "N", email: "n@example.test", password: PASSWORD } });
  await call("sign-up while it is off, bad e-mail", "POST", "/sign-up/email", { body: { name: "N", email: "nope", password: PASSWORD } });
  await call("sign-up while it is off, short password", "POST", "/sign-up/email", { body: { name: "N", email: "n@example.test", password: "1" } });
  await call("sign-up while it is off, bad origin", "POST", "/sign-up/email", { body: { name: "N", email: "n@example.test", password: PASSWORD }, headers: { Origin: "https://evil.example" } });
  await call("request-password-reset without mail", "POST", "/request-password-reset", { body: { email: "n@example.test" } });
  await call("request-password-reset without mail, bad e-mail", "POST", "/request-password-reset", { body: { email: "nope" } });
  await call("request-password-reset without mail, untrusted", "POST", "/request-password-reset", { body: { email: "n@example.test", redirectTo: "https://evil.example/" } });
  await call("send-verification-email without mail", "POST", "/send-verification-email", { body: { email: "n@example.test" } });
  await call("reset-password without mail", "POST", "/reset-password", { body: { newPassword: PASSWORD, token: "x".repeat(24) } });
  await call("verify-email without mail", "GET", "/verify-email?token=x");
}

async function withJwt({ call }) {
  const up = await call("sign-up", "POST", "/sign-up/email", { body: { name: "Ada", email: "ada@example.test", password: PASSWORD } });
  await call("sign-in not remembered", "POST", "/sign-in/email", { body: { email: "ada@example.test", password: PASSWORD, rememberMe: false } });
  await call("get-session with session_data", "GET", "/get-session", { cookie: up.cookies });
  await call("get-session without session_data", "GET", "/get-session", { cookie: tokenOnly(up.cookies) });
}

const transcripts = [];
const captures = { mail: withMail, quiet, mailjwt: withJwt };
for (const [name, run] of Object.entries(captures)) {
  const server = await open(name);
  const kept = recorder(name);
  await run(kept);
  transcripts.push(...kept.transcripts);
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}
const config = { secret: SECRET, ports: PORTS, expiresIn: 172800, updateAge: 86400, freshAge: 86400, cookieCacheMaxAge: 300 };
const about = "Captured from better-auth 1.7.25 on node 20, a live server, by tests/real/capture.mjs.";
console.log(JSON.stringify({ about, config, transcripts }, null, 1));
