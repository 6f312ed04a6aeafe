// Drives the official client: `node client.js CONNECTION.json SCENARIO`, and prints what it saw as one line of JSON.

import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';

import * as grpc from '@grpc/grpc-js';
import { connect, hash, signers } from '@hyperledger/fabric-gateway';

const [connectionFile, scenario] = process.argv.slice(2);
const connection = JSON.parse(readFileSync(connectionFile, 'utf8'));
const credentials = grpc.credentials.createSsl(Buffer.from(connection.tlsCa));
const client = new grpc.Client(connection.address, credentials, { 'grpc.max_receive_message_length': 100 * 1024 * 1024 });
const privateKey = createPrivateKey(connection.privateKey);
const identity = { mspId: connection.mspId, credentials: Buffer.from(connection.certificate) };
const signer = signers.newPrivateKeySigner(privateKey);
const deadline = () => ({ deadline: Date.now() + 10_000 });
const options = { evaluateOptions: deadline, endorseOptions: deadline, submitOptions: deadline, commitStatusOptions: deadline };
const utf8 = new TextDecoder();
const everybody = { endorsingOrganizations: ['HospitalA', 'HospitalB'] };

const gateway = connect({ client, identity, signer, hash: hash.sha256, ...options });
const network = gateway.getNetwork(connection.channel);
const contract = network.getContract(connection.chaincode);

async function first(events, count) {
    const found = [];
    try {
        for await (const event of events) {
            found.push(event);
            if (found.length === count) {
                return found;
            }
        }
    } finally {
        events.close();
    }
    return found;
}

function told(error) {
    const details = (error.details ?? []).map(({ mspId, message }) => ({ mspId, message }));
    return { name: error.name, code: grpc.status[error.code], message: error.message, details };
}

async function failure(call) {
    try {
        await call();
    } catch (error) {
        return told(error);
    }
    return null;
}

const scenarios = {
    async submit() {
        const commit = await contract.submitAsync('put', { arguments: ['node-key', 'from node'], ...everybody });
        const status = await commit.getStatus();
        const read = utf8.decode(await contract.evaluateTransaction('get', 'node-key'));
        return {
            result: utf8.decode(commit.getResult()),
            transactionId: commit.getTransactionId(),
            code: status.code,
            successful: status.successful,
            blockNumber: Number(status.blockNumber),
            read,
        };
    },

    async planned() {
        const result = await contract.submitTransaction('put', 'planned', 'by the gateway');
        return { result: utf8.decode(result), read: utf8.decode(await contract.evaluateTransaction('get', 'planned')) };
    },

    async offline() {
        const offline = connect({ client, identity, hash: hash.sha256, ...options });
        try {
            const build = offline.getNetwork(connection.channel).getContract(connection.chaincode);
            const unsigned = build.newProposal('put', { arguments: ['offline', 'signed elsewhere'], ...everybody });
            const proposal = offline.newSignedProposal(unsigned.getBytes(), await signer(unsigned.getDigest()));
            const endorsed = await proposal.endorse();
            const transaction = offline.newSignedTransaction(endorsed.getBytes(), await signer(endorsed.getDigest()));
            const submitted = await transaction.submit();
            const commit = offline.newSignedCommit(submitted.getBytes(), await signer(submitted.getDigest()));
            const status = await commit.getStatus();
            return { code: status.code, transactionId: status.transactionId };
        } finally {
            offline.close();
        }
    },

    async events() {
        const start = await network.getChaincodeEvents(connection.chaincode);
        const blockNumbers = [];
        const commits = [];
        for (const name of ['one', 'two']) {
            const commit = await contract.submitAsync('emit', { arguments: [`event-${name}`, name, `payload ${name}`], ...everybody });
            commits.push(commit.getTransactionId());
            blockNumbers.push(Number((await commit.getStatus()).blockNumber));
        }
        const shown = (event) => ({ name: event.eventName, payload: utf8.decode(event.payload), transactionId: event.transactionId, blockNumber: Number(event.blockNumber) });
        const live = (await first(start, 2)).map(shown);
        const replayed = await first(await network.getChaincodeEvents(connection.chaincode, { startBlock: BigInt(blockNumbers[0]) }), 2);
        const checkpoint = { getBlockNumber: () => BigInt(blockNumbers[0]), getTransactionId: () => commits[0] };
        const resumed = await first(await network.getChaincodeEvents(connection.chaincode, { checkpoint }), 1);
        return { live, replayed: replayed.map(shown), resumed: resumed.map(shown), commits, blockNumbers };
    },

    async blocks() {
        const full = await first(await network.getBlockEvents({ startBlock: BigInt(0) }), 2);
        const filtered = await first(await network.getFilteredBlockEvents({ startBlock: BigInt(0) }), 2);
        const commit = await contract.submitAsync('put_private', {
            arguments: [`_implicit_org_${connection.mspId}`, 'node-private'],
            transientData: { value: 'a private value' },
            endorsingOrganizations: [connection.mspId],
        });
        const { blockNumber } = await commit.getStatus();
        const [withPrivate] = await first(await network.getBlockAndPrivateDataEvents({ startBlock: blockNumber }), 1);
        const privateSets = [...withPrivate.getPrivateDataMapMap().entries()].map(([index, set]) => [
            index,
            set.getNsPvtRwsetList().map((namespace) => namespace.getCollectionPvtRwsetList().map((part) => part.getCollectionName())),
        ]);
        return {
            full: full.map((block) => Number(block.getHeader().getNumber())),
            filtered: filtered.map((block) => Number(block.getNumber())),
            channel: filtered[0].getChannelId(),
            privateSets,
        };
    },

    async errors() {
        return {
            evaluate: await failure(() => contract.evaluateTransaction('refuse', '404', 'NOT_THERE', 'nothing')),
            endorse: await failure(() => contract.submitTransaction('refuse', '409', 'CONFLICT', 'no')),
            unknownOrganization: await failure(() => contract.submit('put', { arguments: ['k', 'v'], endorsingOrganizations: ['Nobody'] })),
            unknownChaincode: await failure(() => network.getContract('nothing').evaluateTransaction('get', 'k')),
            unknownChannel: await failure(() => gateway.getNetwork('nowhere').getContract(connection.chaincode).evaluateTransaction('get', 'k')),
        };
    },
};

try {
    console.log(JSON.stringify(await scenarios[scenario]()));
} finally {
    gateway.close();
    client.close();
}
