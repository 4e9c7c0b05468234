/** The connection as the application configures it; also what TypeORM's command is given with -d. */

import "reflect-metadata";

import { join } from "node:path";

import { DataSource } from "typeorm";

import { Actor, Edge, Flashcard, Node, ReviewLog } from "./entities";

/** Called when a connection of the pool fails while nobody uses it. */
export const idleConnections: { failed: (error: Error) => void } = { failed: () => undefined };

export default new DataSource({
    type: "postgres",
    url: process.env.DATABASE_URL,
    entities: [Actor, Edge, Flashcard, Node, ReviewLog],
    migrations: [join(__dirname, "migrations", "*.js")],
    synchronize: false,
    installExtensions: false,
    extra: { max: Number(process.env.CONNECTIONS ?? 4) },
    poolErrorHandler: (error: Error) => idleConnections.failed(error),
});
