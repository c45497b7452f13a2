"""`python3 -m service demo`: real data, a real training, a real bill, on whatever machine this is."""
