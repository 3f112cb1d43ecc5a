// An OpenID provider that rotates refresh tokens and revokes the family of one that is reused. It reads SETTINGS (JSON)
// and prints its URL. POST /issue returns a first refresh token, POST /issue/jwt one whose access tokens are JWTs for
// AWS, GET /counts the numbers of consumed tokens, refused requests and revoked families. A person may sign in with any
// name and password, with a redirect to loopback or with a device code.
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:https';
import { Provider } from 'oidc-provider';

const { certificate, key, client_id, client_secret } = JSON.parse(process.env.SETTINGS);
const scope = 'openid offline_access';
const aws = { indicator: 'urn:aws', audience: 'sts.amazonaws.com', scope: 'assume' };
const counts = { consumed: 0, refused: 0, revoked: 0 };
const signingKey = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });

const server = createServer({ cert: certificate, key });
server.listen(0, '127.0.0.1', () => {
  const url = `https://127.0.0.1:${server.address().port}`;
  const provider = new Provider(url, {
    clients: [{
      client_id,
      client_secret,
      application_type: 'native',
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      redirect_uris: ['http://127.0.0.1/callback'],
    }],
    features: {
      deviceFlow: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({ audience: aws.audience, scope: aws.scope, accessTokenFormat: 'jwt' }),
        useGrantedResource: () => true,
      },
    },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    jwks: { keys: [{ ...signingKey, alg: 'RS256', use: 'sig' }] },
    rotateRefreshToken: true,
    ttl: { AccessToken: 3600, Grant: 86400, IdToken: 3600, RefreshToken: 86400 },
  });
  provider.on('refresh_token.consumed', () => { counts.consumed += 1; });
  provider.on('grant.error', () => { counts.refused += 1; });
  provider.on('grant.revoked', () => { counts.revoked += 1; });
  const handle = provider.callback();
  const routes = {
    'POST /issue': () => issue(provider),
    'POST /issue/jwt': () => issue(provider, aws),
    'GET /counts': async () => JSON.stringify(counts),
  };
  server.on('request', (request, response) => {
    const route = routes[`${request.method} ${request.url}`];
    return route ? route().then((text) => response.end(text)) : handle(request, response);
  });
  console.log(url);
});

// Issues what a sign-in with a browser would.
async function issue(provider, resource) {
  const grant = new provider.Grant({ accountId: 'demo-user', clientId: client_id });
  grant.addOIDCScope(scope);
  if (resource) grant.addResourceScope(resource.indicator, resource.scope);
  const token = new provider.RefreshToken({
    accountId: 'demo-user',
    client: await provider.Client.find(client_id),
    expiresWithSession: false,
    grantId: await grant.save(),
    gty: 'authorization_code',
    iiat: Math.floor(Date.now() / 1000),
    resource: resource?.indicator,
    rotations: 0,
    scope: resource ? `${scope} ${resource.scope}` : scope,
  });
  return token.save();
}
