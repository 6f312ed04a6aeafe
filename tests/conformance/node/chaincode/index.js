'use strict';

// Some of what tests/support/conformance_chaincode.py does, on fabric-contract-api and fabric-shim.

const { Contract } = require('fabric-contract-api');

class Conformance extends Contract {
    async put(ctx, key, value) {
        await ctx.stub.putState(key, Buffer.from(value));
        return value;
    }

    async get(ctx, key) {
        return Buffer.from(await ctx.stub.getState(key)).toString();
    }

    async del(ctx, key) {
        await ctx.stub.deleteState(key);
    }

    async range(ctx, start, end) {
        const found = [];
        for await (const item of ctx.stub.getStateByRange(start, end)) {
            found.push([item.key, Buffer.from(item.value).toString()]);
        }
        return JSON.stringify(found);
    }

    async page(ctx, start, end, size, bookmark) {
        const { iterator, metadata } = await ctx.stub.getStateByRangeWithPagination(start, end, Number(size), bookmark);
        const keys = [];
        for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
            keys.push(next.value.key);
        }
        return JSON.stringify({ keys, bookmark: metadata.bookmark });
    }

    async history(ctx, key) {
        const found = [];
        for await (const item of ctx.stub.getHistoryForKey(key)) {
            found.push([Buffer.from(item.value).toString(), item.isDelete]);
        }
        return JSON.stringify(found);
    }

    async put_private(ctx, collection, key) {
        await ctx.stub.putPrivateData(collection, key, ctx.stub.getTransient().get('value'));
    }

    async get_private(ctx, collection, key) {
        return Buffer.from(await ctx.stub.getPrivateData(collection, key)).toString();
    }

    async private_hash(ctx, collection, key) {
        return Buffer.from(await ctx.stub.getPrivateDataHash(collection, key)).toString('hex');
    }

    async purge_private(ctx, collection, key) {
        await ctx.stub.purgePrivateData(collection, key);
    }

    async emit(ctx, key, name, payload) {
        await ctx.stub.putState(key, Buffer.from(payload));
        ctx.stub.setEvent(name, Buffer.from(payload));
    }

    async refuse(ctx, text) {
        throw new Error(text);
    }

    async who(ctx) {
        return JSON.stringify({ mspId: ctx.clientIdentity.getMSPID(), attributes: { role: ctx.clientIdentity.getAttributeValue('role') } });
    }
}

module.exports.contracts = [Conformance];
