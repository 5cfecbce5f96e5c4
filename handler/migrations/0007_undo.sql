-- Takes a database from version 7 back to version 6. All API keys are lost.
drop table api_keys;
