from emitter.app.programs import simulate

if __name__ == "__main__":
    simulate()
