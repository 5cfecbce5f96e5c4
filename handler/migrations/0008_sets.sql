-- sets: of the last group of changes that the host committed, a list in JSON of the latest message's id before and after
-- each set of messages that was stored in one statement. A host whose answer was lost finds its messages by it.
alter table hosts add column sets text;
