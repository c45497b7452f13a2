-- Which value each label of a job had when: streams ask for the labels that a job had right after an event.
CREATE INDEX events_of_label ON events (job, (data ->> 'name'), position) WHERE type = 'LabelSet';
