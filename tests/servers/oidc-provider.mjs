// The identity provider of the tests: the package oidc-provider, which is a real one. Three routes more are for the tests:
// `/id-token?user=…` logs somebody in, as a browser and an app would do it, and answers with the ID token; `/sign` signs what it
// is told to; `/rotate` replaces the keys, with `?kid=…` by ones that have this in their ids.
//
//     node oidc-provider.mjs PORT
import { createHash, createPrivateKey, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { createServer } from "node:http";

import Provider from "oidc-provider";

const kinds = {
  RS256: () => generateKeyPairSync("rsa", { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync("ec", { namedCurve: "P-256" }),
  EdDSA: () => generateKeyPairSync("ed25519"),
};
const newKeys = (kid = randomBytes(8).toString("hex")) =>
  Object.entries(kinds).map(([alg, make]) => ({
    ...make().privateKey.export({ format: "jwk" }),
    alg,
    use: "sig",
    kid: `${alg} ${kid}`,
  }));

const server = createServer();
await new Promise((listening) => server.listen(Number(process.argv[2]), "127.0.0.1", listening));
const issuer = `http://127.0.0.1:${server.address().port}`;
const redirect_uri = "https://app.example/callback";
const clients = Object.keys(kinds).map((alg) => ({
  client_id: alg,
  client_secret: "a secret of the app",
  redirect_uris: [redirect_uri],
  response_types: ["code"],
  grant_types: ["authorization_code"],
  id_token_signed_response_alg: alg,
}));

let provider;
let keys;
function start(kid) {
  keys = newKeys(kid);
  provider = new Provider(issuer, {
    clients,
    jwks: { keys },
    cookies: { keys: ["a key of cookies"] },
    conformIdTokenClaims: false,
    claims: { openid: ["sub"], profile: ["name", "preferred_username"] },
    enabledJWA: { idTokenSigningAlgValues: Object.keys(kinds) },
    // The subject is not the name, as with most providers.
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: `subject of ${id}`, name: `Name of ${id}`, preferred_username: id }),
    }),
  });
}
start();

/** A browser that follows redirects by hand, and keeps cookies. */
function browser() {
  const cookies = new Map();
  return async (url, form) => {
    const headers = { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join("; ") };
    const body = form && new URLSearchParams(form);
    const answer = await fetch(url, { method: form ? "POST" : "GET", headers, body, redirect: "manual" });
    for (const cookie of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
      if (value === "") cookies.delete(name);
      else cookies.set(name, value);
    }
    const to = answer.headers.get("location");
    return to === null ? { text: await answer.text() } : { to: new URL(to, issuer) };
  };
}

/** The authorization code flow, with PKCE. */
async function logIn(user, client_id) {
  const verifier = randomBytes(32).toString("base64url");
  const code_challenge = createHash("sha256").update(verifier).digest("base64url");
  const asked = { client_id, redirect_uri, code_challenge, code_challenge_method: "S256", response_type: "code", scope: "openid profile" };
  const go = browser();
  let at = (await go(`${issuer}/auth?${new URLSearchParams(asked)}`)).to;
  // Two forms, to log in and to agree, and redirects between them.
  for (let forms = ["login", "consent"]; at.origin === issuer; ) {
    const { to } = at.pathname.startsWith("/interaction/")
      ? await go(at, { prompt: forms.shift(), login: user, password: "any" })
      : await go(at);
    at = to;
  }
  const form = { grant_type: "authorization_code", code: at.searchParams.get("code"), redirect_uri, code_verifier: verifier };
  const authorization = `Basic ${Buffer.from(`${client_id}:${encodeURIComponent("a secret of the app")}`).toString("base64")}`;
  const answer = await fetch(`${issuer}/token`, { method: "POST", headers: { authorization }, body: new URLSearchParams(form) });
  const { id_token, ...rest } = await answer.json();
  return id_token ?? JSON.stringify(rest);
}

server.on("request", async (request, response) => {
  const url = new URL(request.url, issuer);
  if (url.pathname === "/id-token") {
    response.end(await logIn(url.searchParams.get("user"), url.searchParams.get("alg") ?? "RS256").catch((error) => error.stack));
  } else if (url.pathname === "/sign") {
    let body = "";
    for await (const part of request) body += part;
    const { header, claims, forged } = JSON.parse(body);
    const [own] = keys;
    const part = (data) => Buffer.from(JSON.stringify(data)).toString("base64url");
    const text = `${part({ alg: own.alg, kid: own.kid, ...header })}.${part(claims)}`;
    const key = forged ? kinds.RS256().privateKey : createPrivateKey({ key: own, format: "jwk" });
    response.end(`${text}.${sign("sha256", Buffer.from(text), key).toString("base64url")}`);
  } else if (url.pathname === "/rotate") {
    start(url.searchParams.get("kid") ?? undefined);
    response.end();
  } else {
    provider.callback()(request, response);
  }
});
