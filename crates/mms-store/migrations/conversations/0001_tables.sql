CREATE TABLE conversations (
    id TEXT PRIMARY KEY,
    label INTEGER NOT NULL,
    system TEXT NOT NULL,
    begins TEXT NOT NULL,
    first_turn INTEGER NOT NULL,
    first_message INTEGER NOT NULL,
    used REAL NOT NULL
);
CREATE TABLE turns (
    conversation TEXT NOT NULL,
    number INTEGER NOT NULL,
    messages TEXT NOT NULL,
    PRIMARY KEY (conversation, number)
);
