"""What Envoy accepts, known beforehand: one refused field would make it refuse a whole resource.

``regexes`` asks RE2, ``rules`` reads the annotations of Envoy's API, ``formats`` knows format strings, ``headers``
names and values of headers. All answers are texts: "" when Envoy takes the value, else the reason why not.
"""
