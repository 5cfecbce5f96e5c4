-- Messages, conversations and memberships can change after they are made. What is known of a changed
-- message has tables of its own, so that a send pays nothing for it: one more index on messages,
-- even a partial one that does not contain the message, costs each message 600 instructions.

-- messages.rev is the rev that a message was made with; it orders the history and the unread count
-- uses it. changed_rev is the rev of the message's latest change, or null if it has not changed.
-- Clients see the later of the two.
alter table messages add column changed_rev integer;

-- A row for each message whose changed_rev is not null. rev: that of the message's creation.
-- edited_at: Unix seconds of its latest edit, or null. is_deleted: 1 if its content was erased; the
-- content is '' then. reactions: the number of its rows in the table reactions.
create table changed_messages (
    message_id      integer primary key,
    conversation_id integer not null,
    rev             integer not null default 0,
    changed_rev     integer not null,
    edited_at       integer,
    is_deleted      integer not null default 0,
    reactions       integer not null default 0
);

-- "Which messages of a conversation have changed since."
create unique index changed_messages_by_rev on changed_messages (conversation_id, changed_rev);

-- "Is any of the unread messages deleted."
create index changed_messages_deleted on changed_messages (conversation_id, rev) where is_deleted = 1;

-- members_rev: the conversation's rev at the latest change of its members. A host uses it to find
-- out whether it has heard of all changes. A conversation that still has its first members has no
-- row, which counts as 1, its first rev. previous_rev: members_rev before that change.
create table members_changes (
    conversation_id integer primary key,
    members_rev     integer not null,
    previous_rev    integer not null
);

-- mentions: a JSON list of the ids of the users whom the message mentions, or null if it mentions
-- nobody, so that reading such a message needs no other table.
alter table messages add column mentions text;

-- A row for each user, other than its sender, whom a message mentions. rev: that of the message's
-- creation.
create table mentions (
    user_id         integer not null,
    message_id      integer not null,
    conversation_id integer not null,
    rev             integer not null,
    primary key (user_id, message_id)
);

-- "How many unread messages of a conversation mention a user."
create index mentions_by_conversation on mentions (user_id, conversation_id, rev);

-- The implicit rowid is the order in which people reacted.
create table reactions (
    message_id integer not null,
    emoji      text not null,
    user_id    integer not null,
    primary key (message_id, emoji, user_id)
);

-- created_at: Unix seconds, or null for a conversation from before this version.
-- direct: the smaller and the larger id of the two members, as "1:2", or null for a group.
-- member_count: so that nothing has to count ten thousand members.
-- changed_by: the id of the request that changed the name, the members or the roles last, if its
-- answer could get lost.
alter table conversations add column created_at integer;
alter table conversations add column direct text;
alter table conversations add column member_count integer not null default 0;
alter table conversations add column changed_by blob;

update conversations set member_count = (select count(*) from members where conversation_id = conversations.id);

-- One direct conversation for each pair, however many are created at once.
create unique index conversations_direct on conversations (direct) where direct is not null;

-- skeleton: what the username looks like (Unicode Technical Standard 39), so that nobody can
-- register a twin of a taken name. Null if another program has stored the account, or a release
-- before this version; a host computes it then. Accounts that look alike already stay, so it is
-- not unique.
alter table users add column skeleton text;
create index users_by_skeleton on users (skeleton);

-- role: 0 member, 1 admin, 2 owner. joined_rev: the conversation's rev when the member joined.
alter table members add column role integer not null default 0;
alter table members add column joined_rev integer not null default 1;

-- "Who is owner or admin of a conversation": most members are neither.
create index members_with_role on members (conversation_id, role) where role > 0;
