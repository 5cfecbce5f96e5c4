-- What several hosts over one database need, and a host whose answers may get lost on the way from it.

-- batch: numbers the groups of changes that a host commits, so that one whose answer was lost is neither stored twice nor
-- believed lost. A host with a row is alive until seen_at is too old; one that has lost its row has lost its users too.
-- lease: the batch after which it took its lease. returned: how far it has made its users known again under this lease.
alter table hosts add column batch integer not null default 0;
alter table hosts add column lease integer not null default 0;
alter table hosts add column returned integer not null default 0;

-- request_id: of the request that made it, where its answer may get lost.
alter table conversations add column request_id blob;
create unique index conversations_by_request_id on conversations (request_id) where request_id is not null;

-- Hosts over the same database find each other on the bus by this name.
create table community (id text not null);
insert into community (id) values (lower(hex(randomblob(8))));
