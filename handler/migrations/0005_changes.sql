-- What changes after it was made: messages, and who is in a conversation. Each has a table of its own, so that a send pays nothing
-- for it: another index of messages, even a partial one that the message is not in, costs each of them 600 instructions.

-- messages.rev is the rev that a message was made with; it orders the history and counts the unread. changed_rev: that of the
-- latest change of the message since, null until there is one. Clients see the later of the two.
alter table messages add column changed_rev integer;

-- The messages whose changed_rev is not null, with that.
create table changed_messages (
    message_id      integer primary key,
    conversation_id integer not null,
    changed_rev     integer not null
);

-- "Which messages of a conversation have changed since."
create unique index changed_messages_by_rev on changed_messages (conversation_id, changed_rev);

-- members_rev: the conversation's rev at the latest change of its members, by which a host knows whether it has heard of all
-- changes. A conversation whose members are those it was made with has no row, and counts as 1, its first rev.
create table members_changes (
    conversation_id integer primary key,
    members_rev     integer not null
);
