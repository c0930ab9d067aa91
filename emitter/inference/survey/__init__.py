"""What a movie tells of its camera and its emitters before any network sees it: pure functions over frames in photons."""
