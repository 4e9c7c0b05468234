/**
 * The application, as far as it reads and writes reviews: learners at work through TypeORM, and,
 * unless PREPARED is 0, through named prepared statements of node-postgres.
 *
 * Tells on standard output, a JSON object a line: `ready`, then `progress` twice a second. SIGTERM
 * ends it; then a `row` for each review that it says is in the database, and `end`. The first error
 * the database shows it is told as `error`, and ends it with exit code 1.
 *
 * Learners have reviews of their own, so that each knows what it must find. A serialization failure
 * is part of REPEATABLE READ, and tried again.
 */

import { setTimeout as pause } from "node:timers/promises";

import { Pool } from "pg";
import { Between, EntityManager, In, QueryFailedError } from "typeorm";

import dataSource, { idleConnections } from "./data-source";
import { Actor, Flashcard, MemoryState, ReviewLog } from "./entities";

const LEARNERS = Number(process.env.LEARNERS ?? 4);
const CLAIMED = 60;
const DAYS = 140;
const DAY = 86_400_000;
const PREPARED = process.env.PREPARED !== "0";
const TRIES = 20;

type Stored = Pick<
    ReviewLog,
    | "id"
    | "flashcardId"
    | "actorId"
    | "rating"
    | "state"
    | "elapsedTime"
    | "reviewedAt"
    | "scheduledOn"
    | "previousState"
>;

const counts: Record<string, number> = {};
let running = true;

function tell(event: string, values: object = {}): void {
    process.stdout.write(JSON.stringify({ event, ...values }) + "\n");
}

function fail(action: string, error: unknown): void {
    running = false;
    process.exitCode = 1;
    const { code } = error as { code?: string };
    tell("error", { action, code, message: String(error) });
}

/** A generator of numbers in [0, 1) that a seed repeats (mulberry32). */
function generator(seed: number): () => number {
    return () => {
        seed = (seed + 0x6d2b79f5) | 0;
        let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
        mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
    };
}

function stored(review: Stored): Stored {
    const { id, flashcardId, actorId, rating, state, elapsedTime } = review;
    const { reviewedAt, scheduledOn, previousState } = review;
    return {
        id,
        flashcardId,
        actorId,
        rating,
        state,
        elapsedTime,
        reviewedAt,
        scheduledOn,
        previousState,
    };
}

/** As a text that is the same for the same contents, whatever the order of a JSON object's keys. */
function text(value: unknown): string {
    return JSON.stringify(value, (_key, part) =>
        part !== null && typeof part === "object" && !Array.isArray(part)
            ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
            : part,
    );
}

class Learner {
    constructor(
        private readonly random: () => number,
        private readonly pool: Pool,
        private readonly actors: string[],
        private readonly cards: string[],
        readonly reviews: Map<string, Stored>,
    ) {}

    private readonly ownCards: string[] = [];

    /** One action after another until told to stop. */
    async work(): Promise<void> {
        while (running) {
            const [name, action] = this.pick(Object.entries(this.actions));
            try {
                await action();
                counts[name] = (counts[name] ?? 0) + 1;
            } catch (error) {
                fail(name, error);
            }
            await pause(this.random() * 12);
        }
    }

    private readonly actions: Record<string, () => Promise<void>> = {
        save: async () => this.keep(await this.repository.save(this.draft())),
        saveNow: async () => {
            const { reviewedAt: _, ...draft } = this.draft();
            const saved = await this.repository.save(this.repository.create(draft));
            this.keep(saved);
        },
        saveMany: async () => {
            const drafts = Array.from({ length: 8 }, () => this.draft());
            (await this.repository.save(drafts)).forEach((review) => this.keep(review));
        },
        insert: async () => {
            const drafts = Array.from({ length: 3 }, () => this.draft());
            await this.repository.createQueryBuilder().insert().values(drafts).execute();
            drafts.forEach((review) => this.keep(review));
        },
        update: async () => {
            for (const review of await this.found(1)) {
                review.rating = this.whole(1, 4);
                review.state = this.memory();
                review.previousState = { ...this.memory(), retrievability: this.random() };
                this.keep(await this.repository.save(review));
            }
        },
        move: async () => {
            for (const review of await this.found(1)) {
                review.reviewedAt = this.moment();
                review.scheduledOn = this.moment();
                this.keep(await this.repository.save(review));
            }
        },
        moveMany: async () => {
            const ids = this.some(3);
            const reviewedAt = this.moment();
            const result = await this.repository.update({ id: In(ids) }, { reviewedAt });
            this.expect(result.affected, ids.length);
            ids.forEach((id) => this.keep({ ...this.known(id), reviewedAt }));
        },
        increment: async () => {
            for (const id of this.some(1)) {
                await this.repository.increment({ id }, "elapsedTime", 60);
                const known = this.known(id);
                this.keep({ ...known, elapsedTime: known.elapsedTime + 60 });
            }
        },
        delete: async () => {
            const ids = this.some(2);
            const result = await this.repository.delete(ids);
            this.expect(result.affected, ids.length);
            ids.forEach((id) => this.reviews.delete(id));
        },
        remove: async () => {
            for (const review of await this.found(1)) {
                const { id } = review;
                await this.repository.remove(review);
                this.reviews.delete(id);
            }
        },
        find: async () => void (await this.found(5)),
        findWithRelations: async () => {
            const ids = this.some(4);
            const found = await this.repository.find({
                where: { id: In(ids) },
                relations: { flashcard: true, actor: true },
            });
            this.compare(ids, found);
            for (const review of found) {
                this.expect(review.flashcard?.id ?? null, review.flashcardId);
                this.expect(review.actor?.id ?? null, review.actorId);
            }
        },
        history: async () => {
            const actorId = this.pick(this.actors);
            const from = this.moment();
            const found = await this.repository.find({
                where: { actorId, reviewedAt: Between(from, new Date(from.getTime() + 40 * DAY)) },
                order: { reviewedAt: "DESC", id: "ASC" },
                take: 50,
            });
            found.forEach((review, position) => {
                const later = found[position - 1];
                this.expect(later === undefined || later.reviewedAt >= review.reviewedAt, true);
            });
        },
        averages: async () => {
            const found = await this.repository
                .createQueryBuilder("review")
                .innerJoin("review.actor", "actor")
                .select("actor.id", "actor")
                .addSelect("avg(review.rating)", "rating")
                .where("review.reviewedAt >= :from", { from: this.moment() })
                .groupBy("actor.id")
                .getRawMany<{ actor: string; rating: string }>();
            found.forEach(({ rating }) => this.expect(Number(rating) >= 1, true));
        },
        transaction: async () => {
            const done = await dataSource.transaction((manager) => this.several(manager));
            done();
        },
        repeatableRead: async () => {
            for (let tries = 1; ; tries++) {
                try {
                    const done = await dataSource.transaction("REPEATABLE READ", (manager) =>
                        this.several(manager),
                    );
                    return done();
                } catch (error) {
                    const code = error instanceof QueryFailedError && error.driverError.code;
                    if (code !== "40001" || tries === TRIES) {
                        throw error;
                    }
                    counts.triedAgain = (counts.triedAgain ?? 0) + 1;
                }
            }
        },
        rolledBack: async () => {
            const regret = new Error("changed its mind");
            try {
                await dataSource.transaction(async (manager) => {
                    await this.several(manager);
                    throw regret;
                });
            } catch (error) {
                if (error !== regret) {
                    throw error;
                }
            }
        },
        locked: async () => {
            const [id] = this.some(1);
            if (id === undefined) {
                return;
            }
            const changed = await dataSource.transaction(async (manager) => {
                const review = await manager.findOneOrFail(ReviewLog, {
                    where: { id },
                    lock: { mode: "pessimistic_write" },
                });
                this.compare([id], [review]);
                review.rating = this.whole(1, 4);
                return manager.save(review);
            });
            this.keep(changed);
        },
        newCard: async () => {
            const [id, reviews] = await dataSource.transaction(async (manager) => {
                const activityPubId = `https://example.org/own/${this.whole(0, 2 ** 48)}`;
                const card = await manager.save(manager.create(Flashcard, { activityPubId }));
                const drafts = [this.draft(card.id), this.draft(card.id)];
                return [card.id, await manager.save(drafts)] as const;
            });
            this.ownCards.push(id);
            reviews.forEach((review) => this.keep(review));
        },
        deleteCard: async () => {
            const id = this.ownCards.shift();
            if (id === undefined) {
                return;
            }
            // Its reviews go with it, by the foreign key's ON DELETE CASCADE.
            await dataSource.getRepository(Flashcard).delete(id);
            for (const review of [...this.reviews.values()]) {
                if (review.flashcardId === id) {
                    this.reviews.delete(review.id);
                }
            }
        },
        ...(PREPARED ? this.preparedActions() : {}),
    };

    /** Each connection prepares these once, and executes them for as long as it lives. */
    private preparedActions(): Record<string, () => Promise<void>> {
        return {
            preparedFind: async () => {
                for (const id of this.some(2)) {
                    const { rows } = await this.pool.query({
                        name: "find",
                        text: "SELECT * FROM review_logs WHERE id = $1",
                        values: [id],
                    });
                    const found = rows.map((row) => ({
                        ...row,
                        elapsedTime: row.elapsed_time,
                        reviewedAt: row.reviewed_at,
                        scheduledOn: row.scheduled_on,
                    }));
                    this.compare([id], found);
                }
            },
            preparedInsert: async () => {
                const draft = this.draft();
                const { rows } = await this.pool.query({
                    name: "insert",
                    text:
                        'INSERT INTO review_logs ("flashcardId", "actorId", rating, state,' +
                        " elapsed_time, reviewed_at) VALUES ($1, $2, $3, $4, $5, $6) RETURNING *",
                    values: [
                        draft.flashcardId,
                        draft.actorId,
                        draft.rating,
                        draft.state,
                        draft.elapsedTime,
                        draft.reviewedAt,
                    ],
                });
                this.keep({ ...draft, id: rows[0].id, scheduledOn: null, previousState: null });
            },
            preparedMove: async () => {
                for (const id of this.some(1)) {
                    const reviewedAt = this.moment();
                    const { rowCount } = await this.pool.query({
                        name: "move",
                        text: "UPDATE review_logs SET reviewed_at = $2 WHERE id = $1",
                        values: [id, reviewedAt],
                    });
                    this.expect(rowCount, 1);
                    this.keep({ ...this.known(id), reviewedAt });
                }
            },
        };
    }

    /** A save, a move and a deletion; the result brings our knowledge up to date after commit. */
    private async several(manager: EntityManager): Promise<() => void> {
        const [moved, deleted] = this.some(2);
        const saved = await manager.save(this.draft());
        const reviewedAt = this.moment();
        if (moved !== undefined) {
            await manager.update(ReviewLog, moved, { reviewedAt });
        }
        if (deleted !== undefined) {
            await manager.delete(ReviewLog, deleted);
        }
        const ids = [saved.id, moved, deleted].filter((id) => id !== undefined);
        const left = await manager.countBy(ReviewLog, { id: In(ids) });
        this.expect(left, moved === undefined ? 1 : 2);
        return () => {
            this.keep(saved);
            if (moved !== undefined) {
                this.keep({ ...this.known(moved), reviewedAt });
            }
            if (deleted !== undefined) {
                this.reviews.delete(deleted);
            }
        };
    }

    private get repository() {
        return dataSource.getRepository(ReviewLog);
    }

    private async found(most: number): Promise<ReviewLog[]> {
        const ids = this.some(most);
        const found = await this.repository.findBy({ id: In(ids) });
        this.compare(ids, found);
        return found;
    }

    private compare(ids: string[], found: Stored[]): void {
        this.expect(found.length, ids.length);
        for (const review of found) {
            this.expect(text(stored(review)), text(this.known(review.id)));
        }
    }

    private expect(found: unknown, wanted: unknown): void {
        if (found !== wanted) {
            throw new Error(`found ${String(found)} where ${String(wanted)} was written`);
        }
    }

    private keep(review: Stored): void {
        this.reviews.set(review.id, stored(review));
    }

    private known(id: string): Stored {
        const review = this.reviews.get(id);
        if (review === undefined) {
            throw new Error(`found a review that is not there: ${id}`);
        }
        return review;
    }

    private draft(flashcardId = this.pick(this.cards)): ReviewLog {
        return dataSource.getRepository(ReviewLog).create({
            flashcardId,
            actorId: this.pick(this.actors),
            rating: this.whole(1, 4),
            state: this.memory(),
            elapsedTime: this.whole(0, 1_000_000),
            reviewedAt: this.moment(),
            scheduledOn: this.random() < 0.5 ? this.moment() : null,
            previousState: null,
        });
    }

    private memory(): MemoryState {
        return { stability: this.random() * 100, difficulty: this.random() * 10 };
    }

    private moment(): Date {
        return new Date(Date.now() - Math.floor(this.random() * DAYS * DAY));
    }

    private whole(least: number, most: number): number {
        return least + Math.floor(this.random() * (most - least + 1));
    }

    private pick<T>(values: T[]): T {
        return values[Math.floor(this.random() * values.length)] as T;
    }

    /** Some keys of its own, in one order for all, as an application does that avoids deadlocks. */
    private some(most: number): string[] {
        const ids = [...this.reviews.keys()];
        const chosen = new Set<string>();
        for (let drawn = 0; drawn < most && ids.length > 0; drawn++) {
            chosen.add(this.pick(ids));
        }
        return [...chosen].sort();
    }
}

async function main(): Promise<void> {
    await dataSource.initialize();
    const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 3 });
    idleConnections.failed = (error) => fail("idle connection", error);
    pool.on("error", (error) => fail("idle connection", error));
    const actors = (await dataSource.getRepository(Actor).find()).map(({ id }) => id);
    const cards = (await dataSource.getRepository(Flashcard).find()).map(({ id }) => id);
    const learners: Learner[] = [];
    for (let number = 0; number < LEARNERS; number++) {
        const claimed = await dataSource.getRepository(ReviewLog).find({
            order: { id: "ASC" },
            skip: number * CLAIMED,
            take: CLAIMED,
        });
        const reviews = new Map(claimed.map((review) => [review.id, stored(review)]));
        const random = generator(Number(process.env.SEED ?? 1) * 1000 + number);
        learners.push(new Learner(random, pool, actors, cards, reviews));
    }
    const claimed = learners.flatMap(({ reviews }) => [...reviews.keys()]);
    process.on("SIGTERM", () => (running = false));
    tell("ready", { claimed });
    const progress = setInterval(() => tell("progress", { counts }), 500);
    await Promise.all(learners.map((learner) => learner.work()));
    clearInterval(progress);
    for (const review of learners.flatMap(({ reviews }) => [...reviews.values()])) {
        tell("row", { row: review });
    }
    tell("end", { counts });
    await pool.end();
    await dataSource.destroy();
}

main().catch((error: unknown) => fail("main", error));
