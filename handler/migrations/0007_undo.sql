-- Takes a database from version 7 back to version 6. All API keys are lost, and which users an identity
-- provider knows: their accounts stay, and nobody can log in to them.
drop table api_keys;
drop table identities;
