-- Messages and memberships can change after they are made. These changes have tables of their own,
-- so that a send pays nothing for them: one more index on messages, even a partial one that does
-- not contain the message, costs each message 600 instructions.

-- messages.rev is the rev that a message was made with; it orders the history and the unread count
-- uses it. changed_rev is the rev of the message's latest change, or null if it has not changed.
-- Clients see the later of the two.
alter table messages add column changed_rev integer;

-- A row for each message whose changed_rev is not null.
create table changed_messages (
    message_id      integer primary key,
    conversation_id integer not null,
    changed_rev     integer not null
);

-- "Which messages of a conversation have changed since."
create unique index changed_messages_by_rev on changed_messages (conversation_id, changed_rev);

-- members_rev: the conversation's rev at the latest change of its members. A host uses it to find
-- out whether it has heard of all changes. A conversation that still has its first members has no
-- row, which counts as 1, its first rev.
create table members_changes (
    conversation_id integer primary key,
    members_rev     integer not null
);
