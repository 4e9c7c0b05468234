/** The application's entities of the tables that this project changes; names and case as there. */

import {
    Column,
    CreateDateColumn,
    Entity,
    Index,
    JoinColumn,
    ManyToOne,
    OneToMany,
    PrimaryGeneratedColumn,
    Relation,
} from "typeorm";

export interface MemoryState {
    stability: number;
    difficulty: number;
    retrievability?: number;
}

@Entity("actors")
export class Actor {
    @PrimaryGeneratedColumn("uuid")
    id: string;

    @CreateDateColumn({ type: "timestamp" })
    createdAt: Date;

    @Column("jsonb", { name: "fsrs_parameters", nullable: true })
    fsrsParameters: { weights: number[] } | null;

    @Column("double precision", { name: "fsrs_log_loss", nullable: true })
    fsrsLogLoss: number | null;

    @OneToMany(() => ReviewLog, (review) => review.actor)
    reviews: Relation<ReviewLog[]>;
}

@Entity("flashcards")
export class Flashcard {
    @PrimaryGeneratedColumn("uuid")
    id: string;

    @Column("character varying", { unique: true })
    activityPubId: string;

    @OneToMany(() => ReviewLog, (review) => review.flashcard)
    reviews: Relation<ReviewLog[]>;
}

@Entity("review_logs")
export class ReviewLog {
    @PrimaryGeneratedColumn("uuid")
    id: string;

    @Column("uuid", { nullable: true })
    flashcardId: string;

    @ManyToOne(() => Flashcard, (flashcard) => flashcard.reviews, { onDelete: "CASCADE" })
    @JoinColumn({ name: "flashcardId" })
    flashcard: Relation<Flashcard>;

    @Index()
    @Column("uuid", { nullable: true })
    actorId: string;

    @ManyToOne(() => Actor, (actor) => actor.reviews, { onDelete: "CASCADE" })
    @JoinColumn({ name: "actorId" })
    actor: Relation<Actor>;

    /** 1 Again, 2 Hard, 3 Good, 4 Easy. */
    @Column("smallint")
    rating: number;

    @Column("jsonb")
    state: MemoryState;

    /** Seconds since the card's last review, 0 for the first. */
    @Column("integer", { name: "elapsed_time" })
    elapsedTime: number;

    @Column("timestamp", { name: "reviewed_at", default: () => "now()" })
    reviewedAt: Date;

    @Column("timestamp", { name: "scheduled_on", nullable: true })
    scheduledOn: Date | null;

    @Column("jsonb", { nullable: true })
    previousState: MemoryState | null;
}

@Entity("nodes")
export class Node {
    @PrimaryGeneratedColumn("uuid")
    id: string;

    @Column("character varying")
    type: string;

    @Column("jsonb", { default: {} })
    properties: Record<string, unknown>;
}

@Entity("edges")
export class Edge {
    @PrimaryGeneratedColumn("uuid")
    id: string;

    @Column("uuid", { nullable: true })
    sourceId: string;

    @ManyToOne(() => Node)
    @JoinColumn({ name: "sourceId" })
    source: Relation<Node>;

    @Column("uuid", { nullable: true })
    targetId: string;

    @ManyToOne(() => Node)
    @JoinColumn({ name: "targetId" })
    target: Relation<Node>;

    @Column("text")
    type: string;

    @Column("jsonb", { nullable: true })
    properties: Record<string, unknown> | null;
}
