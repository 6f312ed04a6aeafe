// The official client as a client process of benchmarks/load.py: `node node_load.cjs CONNECTION.json`, NODE_PATH naming the packages.

const { createPrivateKey } = require('node:crypto');
const { readFileSync } = require('node:fs');
const { createInterface } = require('node:readline');

const grpc = require('@grpc/grpc-js');
const { connect, hash, signers } = require('@hyperledger/fabric-gateway');

const connection = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const credentials = grpc.credentials.createSsl(Buffer.from(connection.tlsCa));
const client = new grpc.Client(connection.address, credentials, { 'grpc.ssl_target_name_override': 'localhost' });
const identity = { mspId: connection.mspId, credentials: Buffer.from(connection.certificate) };
const signer = signers.newPrivateKeySigner(createPrivateKey(connection.privateKey));
const gateway = connect({ client, identity, signer, hash: hash.sha256 });
const contract = gateway.getNetwork(connection.channel).getContract(connection.chaincode);

async function send(number) {
    const commit = await contract.submitAsync('bench', {
        arguments: [String(number).padStart(8, '0'), String(number % 100)],
        transientData: { value: String(number).padStart(100) },
        endorsingOrganizations: connection.endorsers,
    });
    return (await commit.getStatus()).successful;
}

async function run(first, count, clients) {
    const started = performance.now();
    let next = first;
    let invalid = 0;
    const one = async () => {
        while (next < first + count) {
            const number = next++;
            invalid += (await send(number)) ? 0 : 1;
        }
    };
    await Promise.all(Array.from({ length: clients }, one));
    return { seconds: (performance.now() - started) / 1000, invalid };
}

(async () => {
    for await (const line of createInterface({ input: process.stdin })) {
        console.log(JSON.stringify(await run(...line.split(' ').map(Number))));
    }
})();
