// A real OpenID provider for tests: it rotates refresh tokens and ends the family of one that is used twice.
// It reads its settings from SETTINGS (JSON), says its URL in one line, and mints first refresh tokens at POST /mint.
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:https';
import { Provider } from 'oidc-provider';

const { certificate, key, client_id, client_secret } = JSON.parse(process.env.SETTINGS);
const scope = 'openid offline_access';
const signingKey = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });

const server = createServer({ cert: certificate, key });
server.listen(0, '127.0.0.1', () => {
  const url = `https://127.0.0.1:${server.address().port}`;
  const provider = new Provider(url, {
    clients: [{
      client_id,
      client_secret,
      grant_types: ['authorization_code', 'refresh_token'],
      redirect_uris: ['https://app.invalid/callback'],
    }],
    features: { devInteractions: { enabled: false } },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    jwks: { keys: [{ ...signingKey, alg: 'RS256', use: 'sig' }] },
    rotateRefreshToken: true,
    ttl: { AccessToken: 3600, Grant: 86400, IdToken: 3600, RefreshToken: 86400 },
  });
  const answer = provider.callback();
  server.on('request', (request, response) => {
    if (request.method !== 'POST' || request.url !== '/mint') return answer(request, response);
    return mint(provider).then((token) => response.end(token));
  });
  console.log(url);
});

// What a browser and a person would have led to.
async function mint(provider) {
  const grant = new provider.Grant({ accountId: 'demo-user', clientId: client_id });
  grant.addOIDCScope(scope);
  const token = new provider.RefreshToken({
    accountId: 'demo-user',
    client: await provider.Client.find(client_id),
    expiresWithSession: false,
    grantId: await grant.save(),
    gty: 'authorization_code',
    iiat: Math.floor(Date.now() / 1000),
    rotations: 0,
    scope,
  });
  return token.save();
}
