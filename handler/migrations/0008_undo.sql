-- Takes a database from version 8 back to version 7. Only what a host needs for a moment is lost.
alter table hosts drop column sets;
