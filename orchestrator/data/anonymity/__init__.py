"""Syntactic anonymity of a table: k-anonymity by Mondrian, with l-diversity and t-closeness."""
