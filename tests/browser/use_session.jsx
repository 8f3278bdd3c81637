// A page of an app that uses better-auth's unmodified React client: three components that each say who is signed in,
// and what a person can do about it.
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { createAuthClient } from "better-auth/react";

const { useSession, signIn, signOut, updateUser, revokeOtherSessions } = createAuthClient();

function useSaid(tell) {
  const { data, error, isPending } = useSession();
  if (isPending) return "asking";
  if (error) return `error ${error.status}`;
  return data === null ? "null" : tell(data);
}

const Name = () => <p data-testid="name">{useSaid(({ user }) => user.name)}</p>;
const Email = () => <p data-testid="email">{useSaid(({ user }) => user.email)}</p>;
const Ends = () => <p data-testid="ends">{useSaid(({ session }) => session.expiresAt.toISOString())}</p>;

function SignIn() {
  const [code, setCode] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    const { email, password } = Object.fromEntries(new FormData(event.target));
    const { error } = await signIn.email({ email, password });
    setCode(error?.code ?? "");
  };
  return (
    <form onSubmit={submit}>
      <label>Email <input name="email" type="email" autoComplete="username" /></label>
      <label>Password <input name="password" type="password" autoComplete="current-password" /></label>
      <button>Sign in</button>
      <p role="alert">{code}</p>
    </form>
  );
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <Name />
    <Email />
    <Ends />
    <SignIn />
    <button onClick={() => updateUser({ name: "Ada King" })}>Rename</button>
    <button onClick={() => signOut()}>Sign out</button>
    <button onClick={() => revokeOtherSessions()}>Sign out of all other devices</button>
  </StrictMode>,
);
