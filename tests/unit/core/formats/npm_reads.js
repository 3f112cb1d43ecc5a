// npm's own reader: node npm_reads.js NPM_ROOT FOLDER prints what npm makes of each .npmrc in FOLDER, as JSON.
const [root, folder] = process.argv.slice(2)
const fs = require('node:fs')
const path = require('node:path')
const config = path.join(root, 'node_modules/@npmcli/config')
const Config = require(config)
const { definitions, shorthands, flatten } = require(path.join(config, 'lib/definitions'))

async function read (file) {
  const env = { HOME: folder, npm_config_userconfig: path.join(folder, file) }
  const made = new Config({ npmPath: root, definitions, shorthands, flatten, argv: ['node', 'npm'], env, cwd: folder })
  await made.load()
  const registry = made.get('@acme:registry') || made.get('registry')
  return { registry, token: made.getCredentialsByURI(registry).token }
}

Promise.all(fs.readdirSync(folder).sort().map(read)).then(all => console.log(JSON.stringify(all)))
