"""What the doctor measures itself: a network and its rows looked at, and short trials on copies of it."""
